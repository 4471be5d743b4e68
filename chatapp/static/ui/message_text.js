// @ts-check
/** An answer's text on the page, whose Markdown module is loaded when the first text is near. */

/** @import { CreateMarkdown, Markdown, MessageText, Texts } from "../types" */

import { ApiError, persist } from "../net/api.js";

/** The level of an answer's top headings; those above belong to the page. */
const HEADING = 3;

/** @type {CreateMarkdown | undefined} */
let createMarkdown;

/** A first visit has nothing to draw, and goes without. @returns {Promise<void>} */
export async function loadMarkdown() {
	try {
		({ createMarkdown } = await import("../markdown/markdown.js"));
	} catch (error) {
		// It was not fetched; as with all else that a page asks for, that is tried again.
		if (error instanceof TypeError) throw new ApiError("network");
		throw error;
	}
}

/**
 * Markdown that may be told again from the start, and draws only what is new.
 * @type {(container: HTMLElement, texts: Texts, signal: AbortSignal) => MessageText}
 */
export function createMessageText(container, texts, signal) {
	const markdown = markdownIn(container, texts, signal);
	let content = "";
	/** So much of it was told since the last start. */
	let told = 0;

	/** @param {string} text */
	function replace(text, isCut = false) {
		told = text.length;
		// What a failed server did not get to save stays on the page.
		if (!isCut && content.startsWith(text)) return;
		if (!text.startsWith(content)) {
			content = "";
			markdown.reset();
		}
		markdown.append(text.slice(content.length));
		content = text;
	}

	return {
		content: () => content,
		replace: text => replace(text),
		rewind() {
			told = 0;
		},
		append(text) {
			if (told === content.length) {
				content += text;
				told += text.length;
				markdown.append(text);
			} else if (content.startsWith(text, told)) told += text.length;
			else replace(content.slice(0, told) + text);
		},
		async end(isComplete) {
			if (isComplete && told < content.length) replace(content.slice(0, told), true);
			await new Promise(resolve => markdown.end(() => resolve(0)));
		},
	};
}

/**
 * Markdown that is drawn as soon as its module is here.
 * @type {(container: HTMLElement, texts: Texts, signal: AbortSignal) => Markdown}
 */
function markdownIn(container, texts, signal) {
	if (createMarkdown) return createMarkdown(container, { heading: HEADING, texts });
	let waiting = "";
	/** @type {(() => void) | undefined} */
	let onEnd;
	/** @type {Markdown} */
	let markdown = {
		append(text) {
			waiting += text;
		},
		end(then) {
			onEnd = then;
		},
		reset() {
			waiting = "";
			onEnd = undefined;
		},
	};
	persist(loadMarkdown, signal).then(
		() => {
			markdown = markdownIn(container, texts, signal);
			if (waiting) markdown.append(waiting);
			if (onEnd) markdown.end(onEnd);
		},
		error => {
			if (!signal.aborted) throw error;
		},
	);
	return {
		append: text => markdown.append(text),
		end: then => markdown.end(then),
		reset: () => markdown.reset(),
	};
}
