// @ts-check
/** A conversation's messages on the page, and the answer that runs: followed, stopped, ended. */

/** @import { AnswerView, Chat, Conversing, Follower, Outcome, QuestionView } from "../types" */

import { button } from "../dom.js";
import { followAnswer } from "../net/answer_stream.js";
import { isMissing, persist, request } from "../net/api.js";
import { createAnswer, createQuestion } from "../ui/messages.js";

/** A connection that is back sooner than this, in ms, is not worth a word. */
const UNNOTICED_MS = 800;

/** At the end. @type {(conversing: Conversing, text: string) => QuestionView} */
export function addQuestion({ chat, actions, views, thread }, text) {
	const view = createQuestion(chat, actions, text);
	views.push(view);
	thread.add(view.root);
	return view;
}

/** At the end, with nothing in it. @type {(conversing: Conversing) => AnswerView} */
export function addAnswer({ chat, actions, views, thread }) {
	const view = createAnswer(chat, actions);
	views.push(view);
	thread.add(view.root);
	return view;
}

/**
 * Draws an answer while it is written.
 * @type {(conversing: Conversing, view: AnswerView) => void}
 */
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
 * Says that the connection is lost, unless it is back immediately.
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
		// A new server has started, and only the old one can end the answer: stop following it.
		if (isMissing(error)) return onEnd({ status: "stopped" });
		composer.setMode("busy");
		chat.status.warn(chat.status.sentence(error));
	}
}

/**
 * Shows how an answer has ended.
 * @type {(conversing: Conversing, view: AnswerView, outcome: Outcome) => string | undefined}
 * @returns what is worth saying about it
 */
export function finish({ chat, actions, views }, view, { status: ending, finishReason, error }) {
	const { texts, status } = chat;
	const reason = ending === "done" ? finishReason : ending;
	const note = error ? status.sentence(error) : texts.endings[reason ?? ""];
	const canRetry = view === views.at(-1) && (ending === "gone" || error?.retryable);
	const again = button(texts.askAgain, () => actions.regenerate(view));
	void view.finish(ending, note, canRetry && again);
	return note;
}

/** Nothing runs any more, or what runs is not followed. @param {Conversing} conversing */
export function idle(conversing) {
	conversing.running?.leave.abort();
	conversing.running = null;
	conversing.stop = () => {};
	conversing.chat.status.show("");
	conversing.composer.setMode("idle");
}
