// @ts-check
/**
 * The server's push channel: one connection for all tabs of the browser, and each tab hears all.
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
		// Locks exist on https and localhost only; elsewhere each visible tab listens for itself.
		if (!navigator.locks) return void (isVisible() && hear(until));
		// A lock that is given up before it was had rejects.
		navigator.locks.request(name, { signal: until }, () => hear(until)).catch(() => {});
	}

	channel.onmessage = ({ data }) => onPush(data);
	// A browser keeps no page with an open connection for "back".
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
 * Listens until the signal aborts, each time from where the last one ended.
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
		// `EventSource` gives up after an HTTP error; we don't.
		for (let failures = 0; !until.aborted; await backoff(failures++, until)) {
			await hearOnce(until, () => (failures = 0));
		}
	};
}
