// @ts-check
/**
 * Follows one answer to its end, whatever happens to the connection. No DOM.
 *
 * `EventSource` reconnects by itself if the network fails; after an HTTP error it stops for good,
 * and behind something that buffers it receives nothing. Then the answer's snapshot shows what
 * there is. A page that is not visible holds no connection.
 */

/** @import { Ending, FollowAnswer, Following, Outcome } from "../types" */

import { ApiError, isMissing, request } from "./api.js";
import { backoff, isVisible, onVisibility, onWake, untilVisible } from "./backoff.js";

/** A page that becomes visible again distrusts a connection that was silent for longer. */
const TRUSTED_MS = 30_000;
/** `start` never waits for the model, so a silence of this length is checked. */
const NO_START_MS = 4000;
const SILENCE_MS = 20_000;
/** Until an event that the snapshot has must also have come by the stream. */
const LATE_MS = 1500;

/** Whether the answer is still being written. @param {{status: string}} answer */
export const isRunning = ({ status }) => status === "pending" || status === "streaming";

/** How an answer that no longer runs has ended. @type {(answer: Ending) => Outcome} */
export const outcomeOf = ({ status, finish_reason: finishReason, error }) => ({
	status: status === "failed" ? status : finishReason === "stopped" ? "stopped" : "done",
	finishReason,
	error: status === "failed" ? error : null,
});

/** The signal ends following; the answer goes on. @type {FollowAnswer} */
export async function followAnswer(urls, follower, signal) {
	/** @type {Following} */
	const following = { urls, follower, signal, cursor: 0, failures: 0, isBuffered: false };
	onWake(cause => {
		if (cause === "online") following.isBuffered = false;
	}, signal);
	for (let next = "listen"; next !== "over"; ) {
		await untilVisible(signal);
		if (signal.aborted) return;
		const asks = next === "ask" || following.isBuffered;
		next = asks ? await ask(following) : await listenTo(following);
	}
}

/** @type {(following: Following, ending: Ending) => "over"} */
function end({ follower }, ending) {
	follower.onEnd(outcomeOf(ending));
	return "over";
}

/**
 * Event types and their handlers.
 * @type {(following: Following) => Record<string, (data: any) => unknown>}
 */
const handlersOf = following => ({
	start: following.follower.onStart,
	message: ({ text }) => following.follower.onText(text),
	reasoning: ({ text }) => following.follower.onReasoning(text),
	tool: following.follower.onTool,
	snapshot: following.follower.onSnapshot,
	done: data => end(following, { status: "done", ...data }),
	failed: error => end(following, { status: "failed", error }),
});

/**
 * Follows over one connection.
 * @param {Following} following
 * @returns {Promise<"over" | "listen" | "ask">} why it left: the answer is over, to listen again,
 *   or to ask for the snapshot
 */
function listenTo(following) {
	const { urls, follower, signal } = following;
	return new Promise(resolve => {
		const from = following.cursor ? `?last_event_id=${following.cursor}` : "";
		const source = new EventSource(urls.events + from);
		const left = new AbortController();
		/** @param {"over" | "listen" | "ask"} why */
		const leave = why => {
			source.close();
			left.abort();
			resolve(why);
		};
		const silence = watchSilence(following, left.signal, () => leave("ask"));
		source.onopen = () => follower.onConnection(true);
		source.onerror = () => {
			follower.onConnection(false);
			if (source.readyState === EventSource.CLOSED) leave("ask");
		};
		for (const [type, handle] of Object.entries(handlersOf(following))) {
			source.addEventListener(type, ({ data, lastEventId }) => {
				following.cursor = Number(lastEventId);
				following.failures = 0;
				silence.end();
				if (handle(JSON.parse(data)) === "over") leave("over");
			});
		}
		onWake(cause => {
			const isStale = silence.ms() > TRUSTED_MS || source.readyState !== EventSource.OPEN;
			if (cause === "online" || isStale) leave("listen");
		}, left.signal);
		onVisibility(() => isVisible() || leave("listen"), left.signal);
		signal.addEventListener("abort", () => leave("over"), { signal: left.signal });
	});
}

/**
 * Checks a long silence: only the snapshot tells a thinking model from a buffering proxy.
 * @param {Following} following
 * @param {AbortSignal} signal ends the watch
 * @param {() => void} onBuffered the server has told of an event that does not come
 */
function watchSilence(following, signal, onBuffered) {
	let heard = Date.now();
	/** The last event that a snapshot showed during a silence. */
	let known = 0;

	async function look() {
		following.isBuffered = known > following.cursor;
		if (following.isBuffered) return onBuffered();
		if (Date.now() - heard < (following.cursor ? SILENCE_MS : NO_START_MS)) return;
		heard = Date.now();
		const answer = await request(following.urls.answer, signal).catch(() => null);
		known = answer?.last_event ?? 0;
	}

	const watch = setInterval(look, LATE_MS);
	signal.addEventListener("abort", () => clearInterval(watch));
	return {
		end() {
			heard = Date.now();
		},
		ms: () => Date.now() - heard,
	};
}

/**
 * Follows by snapshots.
 * @param {Following} following
 * @returns {Promise<"over" | "listen">}
 */
async function ask(following) {
	const { urls, follower, signal } = following;
	try {
		const answer = await request(urls.answer, signal);
		follower.onConnection(true);
		following.cursor = answer.last_event;
		follower.onSnapshot(answer);
		if (!isRunning(answer)) return end(following, answer);
		if (following.isBuffered) {
			following.failures = 0;
			follower.onBuffered();
		}
	} catch (error) {
		if (signal.aborted) return "over";
		if (!(error instanceof ApiError)) throw error;
		if (isMissing(error)) {
			follower.onEnd({ status: "gone" });
			return "over";
		}
		follower.onConnection(false);
	}
	await backoff(following.failures++, signal);
	return "listen";
}
