// @ts-check
/**
 * Emphasis (CommonMark 0.31 §6.2, GFM strikethrough): which runs of `*`, `_` and `~` belong
 * together.
 */

/** @import { Delimiter } from "../types" */

import { element } from "../dom.js";

const PUNCTUATION = /[\p{P}\p{S}]/u;
const CJK = /[\u3000-\u30ff\uff00-\uffef\p{sc=Han}\p{sc=Hangul}]/u;

/**
 * Whether a run may open, and close, emphasis. CJK has no spaces: next to it, punctuation counts as
 * a letter.
 * @param {string} char of the run
 * @param {string} before the character before it, or nothing
 * @param {string} after the character after it
 */
export function flanks(char, before, after) {
	const [start, end] = [before, after].map(each => !each.trim());
	const [low, high] = [before, after].map(each => PUNCTUATION.test(each));
	const near = CJK.test(before + after);
	const left = !end && (!high || start || low || near);
	const right = !start && (!low || end || high || near);
	return char === "_"
		? { opens: left && (!right || low), closes: right && (!left || high) }
		: { opens: left, closes: right };
}

/**
 * Pairs delimiters from `bottom` on (CommonMark, "process emphasis").
 * @type {(delimiters: Delimiter[], bottom: number) => void}
 */
export function pair(delimiters, bottom) {
	for (let at = bottom; at < delimiters.length; ) {
		const closer = delimiters[at];
		let from = closer.closes && !closer.isTried ? at - 1 : -1;
		while (from >= bottom && !fits(delimiters[from], closer)) from--;
		if (from < bottom) {
			closer.isTried = true;
			if (closer.opens) at++;
			else delimiters.splice(at, 1);
			continue;
		}
		const opener = delimiters[from];
		emphasize(opener, closer);
		// Delimiters between the two have no other half.
		delimiters.splice(from + 1, at - from - 1);
		at = from + 1;
		if (!closer.node.length) delimiters.splice(at, 1);
		if (!opener.node.length) delimiters.splice(--at, 1);
	}
}

/** @type {(opener: Delimiter, closer: Delimiter) => boolean} */
function fits(opener, closer) {
	if (!opener.opens || opener.char !== closer.char) return false;
	const odd = opener.length % 3 || closer.length % 3;
	return !((opener.closes || closer.opens) && odd && (opener.length + closer.length) % 3 === 0);
}

/**
 * Uses one or two characters of both for what is between them.
 * @type {(opener: Delimiter, closer: Delimiter) => void}
 */
function emphasize(opener, closer) {
	const size = Math.min(opener.node.length, closer.node.length, 2);
	const tag = closer.char === "~" ? "del" : size > 1 ? "strong" : "em";
	wrap(element(tag, {}), opener.node, closer.node);
	for (const { node } of [closer, opener]) {
		node.deleteData(0, size);
		if (!node.length) node.remove();
	}
}

/**
 * Moves everything after a node, up to another, into a new element.
 * @type {(made: HTMLElement, from: ChildNode, to?: ChildNode | null) => void}
 */
export function wrap(made, from, to = null) {
	while (from.nextSibling && from.nextSibling !== to) made.append(from.nextSibling);
	from.after(made);
}

/**
 * Treats open delimiters as if their other half were about to follow.
 * @param {Delimiter[]} delimiters
 */
export function emphasizeOpen(delimiters) {
	for (const { node, char } of delimiters) {
		if (node.length < 2 || char === "_") continue;
		node.deleteData(0, 2);
		wrap(element(char === "~" ? "del" : "strong", {}), node);
	}
}
