// @ts-check
/**
 * The line above the box: status, undo, and errors as sentences; also for screen readers.
 */

/** @import { CreateStatusLine, Refs, StatusLine, Texts } from "../types" */

import { button } from "../dom.js";

const UNDO_MS = 7000;

/** @type {CreateStatusLine} */
export function createStatusLine(refs, texts) {
	/** @type {StatusLine["show"]} */
	function show(text, tone = "calm") {
		refs.status.textContent = text;
		// Don't repeat what the notice already says.
		if (text && text === refs.notice.textContent) refs.notice.hidden = true;
		refs.status.dataset.tone = tone;
	}

	return {
		show,
		warn: text => show(text, "warning"),
		announce(text) {
			refs.announcer.textContent = text;
		},
		sentence: error => sentenceOf(error, texts),
		...createUndo(refs, texts),
	};
}

/**
 * One action that can still be undone.
 * @param {Refs} refs
 * @param {Texts} texts
 */
function createUndo({ toast }, texts) {
	let commit = () => {};
	return {
		/** @type {StatusLine["offerUndo"]} */
		offerUndo(text, act, undo) {
			commit();
			/** @param {() => void} how */
			const settle = how => () => {
				clearTimeout(timer);
				toast.replaceChildren();
				commit = () => {};
				how();
			};
			commit = settle(act);
			const timer = setTimeout(commit, UNDO_MS);
			toast.replaceChildren(text, button(texts.undo, settle(undo)));
		},
		settle: () => commit(),
	};
}

/** @type {(error: any, texts: Texts) => string} */
function sentenceOf(error, texts) {
	// Neither an `ApiError` nor a `Fault`: a bug.
	if (!error.code || error instanceof DOMException) throw error;
	const { code, message, retryAfter } = error;
	const said = texts.errors[code] || message || texts.unexpected;
	return retryAfter && texts.errors[code] ? said + texts.wait.replace("%", retryAfter) : said;
}
