// @ts-check
/**
 * The push channel: one connection for all tabs of the browser; each tab gets all events.
 */

/** @import { OpenPushChannel, Push } from "../types" */

import { backoff, isVisible, onVisibility } from "./backoff.js";

const TYPES = /** @type {const} */ (["conversation", "answer"]);

/** @type {OpenPushChannel} */
export function openPushChannel(url, name, signal, onPush) {
	const channel = new BroadcastChannel(name);
	const hear = createHearing(url, event => {
		channel.postMessage(event);
		onPush(event);
	});
	let held = new AbortController();

	function start() {
		held.abort();
		held = new AbortController();
		const until = held.signal;
		// Locks exist on https and localhost only; elsewhere each visible tab connects itself.
		if (!navigator.locks) return void (isVisible() && hear(until));
		// Aborting a pending lock request rejects it.
		navigator.locks.request(name, { signal: until }, () => hear(until)).catch(() => {});
	}

	channel.onmessage = ({ data }) => onPush(data);
	// Browsers don't cache a page with an open connection for "back".
	addEventListener("pagehide", () => held.abort(), { signal });
	addEventListener("pageshow", event => event.persisted && start(), { signal });
	onVisibility(() => navigator.locks || start(), signal);
	signal.addEventListener("abort", () => {
		held.abort();
		channel.close();
	});
	start();
}

/**
 * Listens until the signal aborts, continuing from the last event received.
 * @type {(url: string, tell: (event: Push) => void) => (until: AbortSignal) => Promise<void>}
 */
function createHearing(url, tell) {
	let cursor = "";

	/** @type {(until: AbortSignal, onOpen: () => void) => Promise<void>} */
	const hearOnce = (until, onOpen) =>
		new Promise(resolve => {
			const source = new EventSource(cursor ? `${url}?last_event_id=${cursor}` : url);
			source.onopen = () => {
				onOpen();
				tell({ type: "open" });
			};
			source.onerror = () => source.readyState === EventSource.CLOSED && resolve();
			for (const type of TYPES) {
				source.addEventListener(type, ({ data, lastEventId }) => {
					cursor = lastEventId;
					tell({ type, ...JSON.parse(data) });
				});
			}
			until.addEventListener("abort", () => resolve(source.close()));
		});

	return async until => {
		// `EventSource` stops after an HTTP error; we don't.
		for (let failures = 0; !until.aborted; await backoff(failures++, until)) {
			await hearOnce(until, () => (failures = 0));
		}
	};
}
