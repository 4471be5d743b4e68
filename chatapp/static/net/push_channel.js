// @ts-check
/** The server's push channel: one connection for all tabs of the browser, and each tab hears all. */

import { isVisible, onVisibility, pause } from "./backoff.js";

/** @type {import("../types").OpenPush} */
export function openPush(url, name, signal, onPush) {
	const channel = new BroadcastChannel(name);
	let held = new AbortController();
	let cursor = "";

	function tell(event) {
		channel.postMessage(event);
		onPush(event);
	}

	/** `EventSource` gives up after an HTTP error; we don't. */
	async function hear(until) {
		for (let failures = 0; !until.aborted; await pause(failures++, until)) {
			await new Promise(resolve => {
				const source = new EventSource(cursor ? `${url}?last_event_id=${cursor}` : url);
				source.onopen = () => {
					failures = 0;
					tell({ type: "open" });
				};
				source.onerror = () => source.readyState === EventSource.CLOSED && resolve(0);
				for (const type of ["conversation", "answer"]) {
					source.addEventListener(type, ({ data, lastEventId }) => {
						cursor = lastEventId;
						tell({ type, ...JSON.parse(data) });
					});
				}
				until.addEventListener("abort", () => resolve(source.close()));
			});
		}
	}

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
