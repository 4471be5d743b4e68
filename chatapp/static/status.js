// @ts-check
/** The line above the box, what screen readers are told, and errors as sentences. */

import { ApiError } from "./api.js";
import { find } from "./dom.js";

/** @typedef {ReturnType<typeof createStatus>} Status */

/**
 * @param {HTMLElement} root
 * @param {import("./strings.js").Strings} strings
 */
export function createStatus(root, strings) {
  const line = find(root, "status");
  const notice = find(root, "notice");
  const announcer = find(root, "announcer");

  /** @param {string} text stays until the next; empty: nothing @param {string} [tone] */
  function show(text, tone = "calm") {
    line.textContent = text;
    if (text && text === notice.textContent) notice.hidden = true; // once is enough
    line.dataset.tone = tone;
  }

  return {
    show,
    /** @param {string} text */
    warn: (text) => show(text, "warning"),
    /** @param {string} text for screen readers alone */
    announce(text) {
      announcer.textContent = text;
    },
    /** @param {unknown} error an `ApiError` or a `Fault`; else a defect, thrown on */
    sentence(error) {
      const { code, message } = /** @type {import("./api.js").Fault} */ (error);
      if (error instanceof Error && !(error instanceof ApiError)) throw error;
      return strings.errors[code] || message || strings.unexpected;
    },
  };
}
