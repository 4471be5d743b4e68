// @ts-check
/**
 * Parses the text inside a block: links, code, math and, with `emphasis`, the rest (CommonMark 0.31
 * §6). HTML stays text. Links lead to the web or to a mailbox; images are links.
 */

/** @import { Scan } from "../types" */

import { element } from "../dom.js";
import { emphasizeOpen, flanks, pair, wrap } from "./emphasis.js";
import { DESTINATION, EDGE, TOKEN, decode, isAllowed, trimmedUrl } from "./syntax.js";

/** Maximum delimiters, and maximum brackets, that wait for their other half. */
const OPEN_MOST = 40;
/** A longer run is a line drawn with characters. */
const RUN_MOST = 16;
/** May be the beginning of math whose end has not arrived. */
const MATH_BEGIN = /^(?:\\[([]|\$\$|\$\S[^$\n]*$)/;

/**
 * @param {string} source
 * @param {boolean} [isOpen] more follows
 * @param {boolean} [cuts] keeps only what can't be changed by what follows, if there is any of that
 * @returns {{made: DocumentFragment, length: number}} `length`: of the source that was read
 */
export function scan(source, isOpen = false, cuts = false) {
	const made = document.createDocumentFragment();
	/** @type {Scan} */
	const state = {
		source,
		at: 0,
		made,
		delimiters: [],
		brackets: [],
		words: null,
		isUnsure: false,
		safe: { at: 0, last: null, length: 0 },
	};
	while (state.at < source.length) {
		if (EDGE.test(source[state.at])) noteSafe(state);
		readToken(state);
	}
	pair(state.delimiters, 0);
	if (cuts && state.safe.at) return cutAtSafe(state);
	if (isOpen) emphasizeOpen(state.delimiters);
	return { made, length: source.length };
}

/** Notes a place where nothing before can change any more. @param {Scan} state */
function noteSafe(state) {
	const { at, made, delimiters, brackets, words, isUnsure } = state;
	if (!brackets.length) pair(delimiters, 0);
	if (isUnsure || brackets.length || delimiters.length) return;
	state.safe = { at, last: made.lastChild, length: words?.length };
}

/** Undoes what came after the last safe place. @param {Scan} state */
function cutAtSafe({ made, safe: { at, last, length } }) {
	if (length !== undefined && last instanceof Text) last.data = last.data.slice(0, length);
	while (made.lastChild && made.lastChild !== last) made.lastChild.remove();
	return { made, length: at };
}

/** @param {Scan} state */
function readToken(state) {
	const { source, at: from, brackets } = state;
	TOKEN.lastIndex = from;
	const found = /** @type {RegExpExecArray} */ (TOKEN.exec(source));
	const token = /** @type {Record<string, string | undefined>} */ (found.groups);
	const [text] = found;
	state.at += text.length;
	if (token.words) say(state, text);
	else if (token.line) breakLine(state, text);
	else if (token.math) put(state, element("span", { chat: "math", dir: "ltr" }, text));
	else if (token.coded) say(state, decode(text));
	else if (token.code) put(state, codeOf(token.code));
	else if (token.mark) readRun(state, text, token.mark, from);
	else if (token.auto && isAllowed(token.auto)) put(state, link(token.auto, token.auto));
	else if (token.auto?.includes("@")) put(state, link(`mailto:${token.auto}`, token.auto));
	else if (token.url) readUrl(state, trimmedUrl(token.url), from);
	else if (token.open && brackets.length < OPEN_MOST) openBracket(state, text);
	else if (token.close) state.at += closeBracket(state);
	else {
		state.isUnsure ||= Boolean(token.ticks) || MATH_BEGIN.test(source.slice(from));
		say(state, text);
	}
}

/** A text that may yet become something else. @type {(state: Scan, text: string) => Text} */
function mark(state, text) {
	const node = new Text(text);
	put(state, node);
	return node;
}

/** @type {(state: Scan, text: string) => void} */
function say(state, text) {
	if (state.words) state.words.appendData(text);
	else state.words = mark(state, text);
}

/** @type {(state: Scan, node: Node) => void} */
function put(state, node) {
	state.made.append(node);
	state.words = null;
}

/** @type {(state: Scan, text: string) => void} */
function breakLine(state, text) {
	if (/^\\|^  /.test(text)) put(state, element("br", {}));
	say(state, "\n");
}

/** A code span loses a space at both ends, unless it is nothing else. @param {string} source */
function codeOf(source) {
	const code = source.replaceAll("\n", " ");
	return element("code", {}, /^ .*[^ ].* $/.test(code) ? code.slice(1, -1) : code);
}

/** @type {(state: Scan, text: string, char: string, from: number) => void} */
function readRun(state, text, char, from) {
	const { source, at, delimiters } = state;
	const { length } = text;
	const isText = length > RUN_MOST || (char === "~" && length !== 2);
	if (isText || delimiters.length >= OPEN_MOST) return say(state, text);
	const [before = ""] = /.$/su.exec(source.slice(Math.max(0, from - 2), from)) ?? [];
	const after = String.fromCodePoint(source.codePointAt(at) ?? 32);
	delimiters.push({ char, length, ...flanks(char, before, after), node: mark(state, text) });
}

/** @type {(state: Scan, url: string, from: number) => void} */
function readUrl(state, url, from) {
	state.at = from + url.length;
	if (isAllowed(url)) put(state, link(url, url));
	else say(state, url);
}

/** @type {(href: string, ...children: string[]) => HTMLAnchorElement} */
function link(href, ...children) {
	const attributes = { href, rel: "noopener noreferrer nofollow", target: "_blank" };
	return element("a", attributes, ...children);
}

/** @type {(state: Scan, text: string) => void} */
function openBracket(state, text) {
	state.brackets.push({
		node: mark(state, text),
		isImage: text[0] === "!",
		isActive: true,
		bottom: state.delimiters.length,
	});
}

/**
 * Makes a link of the text since the last bracket, if a destination follows.
 * @param {Scan} state
 * @returns {number} how much of the source belongs to it
 */
function closeBracket(state) {
	const { source, at, brackets, delimiters } = state;
	const opener = brackets.pop();
	DESTINATION.lastIndex = at;
	const found = opener?.isActive ? DESTINATION.exec(source) : null;
	const url = found ? decode(found[1] ?? found[2]) : "";
	if (!opener || !found || !isAllowed(url, opener.isImage)) {
		state.isUnsure ||= Boolean(opener?.isActive) && !found && source[at] === "(";
		say(state, "]");
		return 0;
	}
	pair(delimiters, opener.bottom);
	delimiters.length = opener.bottom;
	const anchor = link(url);
	const title = found[3] ?? found[4] ?? found[5];
	if (title) anchor.title = decode(title);
	wrap(anchor, opener.node);
	opener.node.remove();
	state.words = null;
	if (opener.isImage) {
		anchor.dataset.chat = "image";
		// Always set: an image's description is plain text.
		anchor.textContent = anchor.textContent || url;
	} else {
		// Links can't contain links.
		for (const each of anchor.querySelectorAll("a")) each.replaceWith(each.textContent ?? "");
		for (const each of brackets) each.isActive &&= each.isImage;
	}
	return found[0].length;
}
