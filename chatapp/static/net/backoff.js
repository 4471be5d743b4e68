// @ts-check
/** Waiting between attempts, and for the page to be seen. */

const FIRST_MS = 500;
const LONGEST_MS = 15_000;

export const isVisible = () => document.visibilityState === "visible";

/**
 * Resolves after a pause that doubles with each failed attempt, or sooner if the browser
 * comes online, the page becomes visible, or the signal aborts.
 * @type {(attempt: number, signal: AbortSignal) => Promise<void>}
 */
export function backoff(attempt, signal) {
	return new Promise(resolve => {
		const over = new AbortController();
		const wake = () => {
			clearTimeout(timer);
			over.abort();
			resolve();
		};
		const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt);
		// Random, so that pages don't all reconnect together after a restart.
		const timer = setTimeout(wake, longest * (0.75 + Math.random() / 2));
		onWake(wake, over.signal);
		signal.addEventListener("abort", wake, { signal: over.signal });
		if (signal.aborted) wake();
	});
}

/**
 * Calls back whenever connections may work again, or may have silently died.
 * @type {(callback: (cause: "online" | "visible") => void, signal: AbortSignal) => void}
 */
export function onWake(callback, signal) {
	addEventListener("online", () => callback("online"), { signal });
	addEventListener("pageshow", event => event.persisted && callback("online"), { signal });
	onVisibility(() => isVisible() && callback("visible"), signal);
}

/** @type {(callback: () => void, signal: AbortSignal) => void} */
export function onVisibility(callback, signal) {
	document.addEventListener("visibilitychange", callback, { signal });
}

/** Resolves also when the signal aborts. @type {(signal: AbortSignal) => Promise<void>} */
export async function untilVisible(signal) {
	while (!isVisible() && !signal.aborted) await backoff(Infinity, signal);
}
