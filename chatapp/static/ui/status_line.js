// @ts-check
/** The line above the box, what screen readers are told, what can be undone; errors as sentences. */

import { button } from "../dom.js";

const UNDO_MS = 7000;

/** @type {import("../types").CreateStatus} */
export function createStatus(ui, texts) {
	let commit = () => {};

	/** The text stays until the next; an empty one says nothing. */
	function show(text, tone = "calm") {
		ui.status.textContent = text;
		if (text && text === ui.notice.textContent) ui.notice.hidden = true; // once is enough
		ui.status.dataset.tone = tone;
	}

	return {
		show,
		warn: text => show(text, "warning"),
		announce(text) {
			ui.announcer.textContent = text;
		},
		offerUndo(text, act, undo) {
			commit();
			const settle = how => () => {
				clearTimeout(timer);
				ui.toast.replaceChildren();
				commit = () => {};
				how();
			};
			commit = settle(act);
			const timer = setTimeout(commit, UNDO_MS);
			ui.toast.replaceChildren(text, button(texts.undo, settle(undo)));
		},
		settle: () => commit(),
		sentence(error) {
			// Neither an `ApiError` nor a `Fault`: a defect.
			if (!error.code || error instanceof DOMException) throw error;
			const { code, message, retryAfter } = error;
			const said = texts.errors[code] || message || texts.unexpected;
			return retryAfter && texts.errors[code] ? said + texts.wait.replace("%", retryAfter) : said;
		},
	};
}
