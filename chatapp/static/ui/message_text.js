// @ts-check
/** An answer's text on the page; loads the Markdown module when text is expected. */

/** @import { CreateMarkdown, Markdown, MessageText, Texts } from "../types" */

import { ApiError, persist } from "../net/api.js";

/** The level of an answer's top headings; those above belong to the page. */
const HEADING = 3;

/** @type {CreateMarkdown | undefined} */
let createMarkdown;

/** A first visit has nothing to draw, and does not need it. @returns {Promise<void>} */
export async function loadMarkdown() {
	try {
		({ createMarkdown } = await import("../markdown/markdown.js"));
	} catch (error) {
		// It could not be fetched; try again, as with all requests of the page.
		if (error instanceof TypeError) throw new ApiError("network");
		throw error;
	}
}

/**
 * Markdown that may start again from the beginning; draws only what is new.
 * @type {(container: HTMLElement, texts: Texts, signal: AbortSignal) => MessageText}
 */
export function createMessageText(container, texts, signal) {
	const markdown = markdownIn(container, texts, signal);
	let content = "";
	/** How much of it has arrived since the last start. */
	let told = 0;

	/** @param {string} text */
	function replace(text, isCut = false) {
		told = text.length;
		// Text that a failed server could not save stays on the page.
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
 * Markdown that is drawn as soon as its module is loaded.
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
