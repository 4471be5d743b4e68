// @ts-check
/** The text of a block on the page, redrawn only from the last safe place. */

/** @import { Inline } from "../types" */

import { scan } from "./scan.js";
import { cut } from "./syntax.js";

/** What is not closed within this many characters is text. */
const SPAN_MOST = 1000;

/** All of a short text. @param {string} text */
export const inline = text => scan(text).made;

/**
 * Appends to a block's text, and finalises what is far back.
 * @type {(block: Inline, text: string) => void}
 */
export function addText(block, text) {
	block.rest += text;
	while (block.rest.length > SPAN_MOST) {
		const { made, length } = scan(cut(block.rest, SPAN_MOST), false, true);
		show(block, made);
		block.final = block.home.lastChild;
		block.rest = block.rest.slice(length);
	}
}

/**
 * Draws a block as far as it has arrived.
 * @type {(block: Inline, text: string, isOpen: boolean) => void}
 */
export function drawText(block, text, isOpen) {
	const drawn = { ...block, rest: "" };
	addText(drawn, text);
	show(drawn, scan(isOpen ? drawn.rest : drawn.rest.trimEnd(), isOpen).made);
}

/**
 * Puts nodes after the final ones, and keeps equal ones that are there.
 * @type {(block: Inline, made: DocumentFragment) => void}
 */
function show({ home, final }, made) {
	let old = final ? final.nextSibling : home.firstChild;
	for (; old && made.firstChild; old = old.nextSibling) {
		const next = made.firstChild;
		if (old instanceof Text && next instanceof Text && next.data.startsWith(old.data)) {
			if (next.length > old.length) old.appendData(next.data.slice(old.length));
		} else if (!old.isEqualNode(next)) break;
		next.remove();
	}
	const last = old ? old.previousSibling : home.lastChild;
	while (home.lastChild && home.lastChild !== last) home.lastChild.remove();
	home.append(made);
}
