// @ts-check
/** An answer that runs: what comes of it goes into its view, and the button stops it. */

/** @import { AnswerView, Chat, Conversing, Follower, Outcome } from "../types" */

import { followAnswer } from "../net/answer_stream.js";
import { isMissing, persist, request } from "../net/api.js";
import { finish, idle } from "./views.js";

/** A connection that is back sooner than this, in ms, is not worth a word. */
const UNNOTICED_MS = 800;

/** @type {(conversing: Conversing, view: AnswerView) => void} */
export function follow(conversing, view) {
	const { chat, composer } = conversing;
	const url = chat.config.urls.answers + view.id;
	const leave = new AbortController();
	conversing.running?.leave.abort();
	conversing.running = { view, leave };
	composer.setMode("busy");

	/** @param {Outcome} outcome */
	function onEnd(outcome) {
		idle(conversing);
		chat.status.announce(finish(conversing, view, outcome) ?? chat.texts.finished);
	}
	/** @type {Follower} */
	const follower = {
		onStart: view.rewind,
		onText: view.append,
		onReasoning: view.reason,
		onTool: view.tool,
		onSnapshot: ({ text, reasoning }) => view.replace(text, reasoning),
		onConnection: tellOfTrouble(chat, leave.signal),
		onBuffered: () => chat.status.show(chat.texts.buffered),
		onEnd,
	};
	void followAnswer({ answer: url, events: `${url}/events` }, follower, leave.signal);
	conversing.stop = () => void stop(conversing, url, leave.signal, onEnd);
}

/**
 * Says that the connection is lost, unless it is back in no time.
 * @type {(chat: Chat, signal: AbortSignal) => Follower["onConnection"]}
 */
function tellOfTrouble({ status, texts }, signal) {
	let trouble = 0;
	signal.addEventListener("abort", () => clearTimeout(trouble));
	return isConnected => {
		if (!isConnected) trouble ||= setTimeout(status.warn, UNNOTICED_MS, texts.lost);
		else if (trouble) {
			clearTimeout(trouble);
			trouble = 0;
			status.show("");
		}
	};
}

/**
 * @param {Conversing} conversing
 * @param {string} url the answer's
 * @param {AbortSignal} signal the answer has ended, or is not followed any more
 * @param {Follower["onEnd"]} onEnd
 */
async function stop({ chat, composer }, url, signal, onEnd) {
	composer.setMode("stopping");
	try {
		await persist(() => request(`${url}/stop`, signal, "POST"), signal);
	} catch (error) {
		if (signal.aborted) return;
		// A new server has taken over, and only the old one can end it: we stop listening.
		if (isMissing(error)) return onEnd({ status: "stopped" });
		composer.setMode("busy");
		chat.status.warn(chat.status.sentence(error));
	}
}
