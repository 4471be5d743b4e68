// @ts-check
/**
 * Follows one answer to its end, whatever happens to the connection. No DOM.
 *
 * `EventSource` reconnects by itself while the network is what fails; after an HTTP error it gives
 * up for good, and behind something that buffers it hears nothing. Then the answer's snapshot tells
 * what there is. A page that nobody sees holds no connection.
 */

import { ApiError, request } from "./api.js";
import { isVisible, onVisibility, onWake, pause, untilVisible } from "./backoff.js";

/** A page that comes back into view distrusts a connection that was silent for longer. */
const TRUSTED_MS = 30_000;
/** `start` never waits for the model: silence as long as this is looked into. */
const NO_START_MS = 4000;
const SILENCE_MS = 20_000;
/** Until an event that the snapshot knows of must have come by the stream as well. */
const LATE_MS = 1500;

/** Whether the answer is still being written. */
export const isRunning = ({ status }) => status === "pending" || status === "streaming";

/** How an answer that no longer runs has ended. @type {import("../types").OutcomeOf} */
export const outcomeOf = ({ status, finish_reason: finishReason, error }) => ({
	status: status === "failed" ? status : finishReason === "stopped" ? "stopped" : "done",
	finishReason,
	error: status === "failed" ? error : null,
});

/** The signal ends following; the answer goes on. @type {import("../types").FollowAnswer} */
export async function followAnswer(urls, follower, signal) {
	let cursor = 0;
	let failures = 0;
	let buffered = false;
	onWake(cause => {
		if (cause === "online") buffered = false;
	}, signal);

	function end(ending) {
		follower.onEnd(outcomeOf(ending));
		return "over";
	}

	/** Type of event → what to do with its data. */
	const handlers = {
		start: follower.onStart,
		message: ({ text }) => follower.onText(text),
		reasoning: ({ text }) => follower.onReasoning(text),
		tool: follower.onTool,
		snapshot: follower.onSnapshot,
		done: data => end({ status: "done", ...data }),
		failed: error => end({ status: "failed", error }),
	};

	/** @returns {Promise<string>} why it left: the answer is `over`, to listen `again`, or to `ask` */
	function listen() {
		return new Promise(resolve => {
			const from = cursor ? `?last_event_id=${cursor}` : "";
			const source = new EventSource(urls.events + from);
			const left = new AbortController();
			const watch = setInterval(look, LATE_MS);
			let heard = Date.now();
			/** The last event that the server told of in a silence. */
			let known = 0;

			function leave(why) {
				source.close();
				clearInterval(watch);
				left.abort();
				resolve(why);
			}

			async function look() {
				buffered = known > cursor;
				if (buffered) return leave("ask");
				if (Date.now() - heard < (cursor ? SILENCE_MS : NO_START_MS)) return;
				heard = Date.now();
				known = (await request(urls.answer, left.signal).catch(() => null))?.last_event ?? 0;
			}

			source.onopen = () => follower.onConnection(true);
			source.onerror = () => {
				follower.onConnection(false);
				if (source.readyState === EventSource.CLOSED) leave("ask");
			};
			for (const [type, handle] of Object.entries(handlers)) {
				source.addEventListener(type, ({ data, lastEventId }) => {
					cursor = Number(lastEventId);
					failures = 0;
					heard = Date.now();
					if (handle(JSON.parse(data)) === "over") leave("over");
				});
			}
			onWake(cause => {
				const stale = Date.now() - heard > TRUSTED_MS || source.readyState !== EventSource.OPEN;
				if (cause === "online" || stale) leave("again");
			}, left.signal);
			onVisibility(() => isVisible() || leave("again"), left.signal);
			signal.addEventListener("abort", () => leave("over"), { signal: left.signal });
		});
	}

	async function ask() {
		try {
			const answer = await request(urls.answer, signal);
			follower.onConnection(true);
			cursor = answer.last_event;
			follower.onSnapshot(answer);
			if (!isRunning(answer)) return end(answer);
			if (buffered) {
				failures = 0;
				follower.onBuffered();
			}
		} catch (error) {
			if (signal.aborted) return "over";
			if (!(error instanceof ApiError)) throw error;
			if (error.code === "not_found") {
				follower.onEnd({ status: "gone" });
				return "over";
			}
			follower.onConnection(false);
		}
		await pause(failures++, signal);
		return "again";
	}

	for (let next = "again"; next !== "over"; ) {
		await untilVisible(signal);
		if (signal.aborted) return;
		next = next === "ask" || buffered ? await ask() : await listen();
	}
}
