// @ts-check
/** Waiting between attempts. */

const FIRST_MS = 500;
const LONGEST_MS = 15_000;

/**
 * Resolves after a pause that doubles with each failed attempt, or sooner, when the browser comes
 * online or the page into view. Random within ±25 %, lest all pages come at once after a restart.
 * @param {number} attempt attempts that failed before, from 0
 * @param {AbortSignal} signal
 * @returns {Promise<void>} rejects with the signal's reason
 */
export function pause(attempt, signal) {
  return new Promise((resolve, reject) => {
    const settled = new AbortController();
    const wake = () => {
      clearTimeout(timer);
      settled.abort();
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    const longest = Math.min(LONGEST_MS, FIRST_MS * 2 ** attempt);
    const timer = setTimeout(wake, longest * (0.75 + Math.random() / 2));
    onWake(wake, settled.signal);
    signal.addEventListener("abort", wake, { signal: settled.signal });
    if (signal.aborted) wake();
  });
}

/**
 * Calls back whenever connections may work again, or may have died unnoticed.
 * @param {(cause: "online" | "visible") => void} callback
 * @param {AbortSignal} signal ends the calls
 */
export function onWake(callback, signal) {
  addEventListener("online", () => callback("online"), { signal });
  addEventListener("pageshow", (event) => event.persisted && callback("online"), { signal });
  document.addEventListener(
    "visibilitychange",
    () => document.visibilityState === "visible" && callback("visible"),
    { signal },
  );
}
