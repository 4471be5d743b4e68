// @ts-check
/** Blocks that contain others: quotes, lists and their items, from the outside in. */

/** @import { Blocks, Container, Line } from "../types" */

import { element } from "../dom.js";
import { drawLeaf } from "./leaves.js";
import { indentOf, isBlank, skip, take } from "./line.js";

const DEPTH_MOST = 32;
/** This many blocks are laid out as one, so that a long answer's frames don't get dearer. */
const PART_MOST = 32;
/** A longer list continues in another element, so that layout need not start from the top. */
const ITEMS_MOST = 200;

const MARKER = /^(?:[-+*]|(\d{1,9})[.)])(?=[ \t]|$)/;

/** The one that holds all others inside. @param {Blocks} blocks */
export const innermost = ({ stack }) => /** @type {Container} */ (stack.at(-1));

/**
 * Whether such a leaf is open in the innermost container, and the line continues it.
 * @type {(blocks: Blocks, type: string) => boolean}
 */
export function isOpen({ leaf, depth, stack }, type) {
	return leaf?.type === type && depth === stack.length;
}

/** @param {Blocks} blocks */
export function closeLeaf(blocks) {
	drawLeaf(blocks.leaf, false);
	blocks.leaf = null;
}

/** Closes what the line does not continue. @param {Blocks} blocks */
export function closeUnmatched(blocks) {
	closeLeaf(blocks);
	blocks.stack.length = blocks.depth;
}

/**
 * Makes room for a block in the innermost container that the line continues: the stack's last.
 * @param {Blocks} blocks
 * @param {boolean} [inList] the block is an item
 * @returns {HTMLElement}
 */
export function parentIn(blocks, inList) {
	closeUnmatched(blocks);
	const { stack } = blocks;
	if (!inList && innermost(blocks).type === "list") stack.length = --blocks.depth;
	const holder = innermost(blocks);
	const { type, home, part = home } = holder;
	if (holder.blank && home.firstChild && !holder.isDraft) {
		const list = type === "item" ? stack[stack.length - 2] : holder;
		if (list.type === "list") list.home.dataset.loose = "";
	}
	const isFull = !inList && part.childElementCount >= PART_MOST;
	if (!isFull && (holder.part || type !== "root")) return part;
	holder.part = element("div", { chat: "part" });
	home.append(holder.part);
	return holder.part;
}

/**
 * Sets `depth` to the containers that the line continues.
 * @type {(blocks: Blocks, line: Line) => void}
 */
export function matchContainers(blocks, line) {
	for (blocks.depth = 1; blocks.depth < blocks.stack.length; blocks.depth++) {
		const { type, offset = 0, home } = blocks.stack[blocks.depth];
		if (type === "quote") {
			if (line.text.trimStart()[0] !== ">") return;
			take(line, 1);
			skip(line, 1);
		} else if (type === "item") {
			if (isBlank(line.text) ? !home.firstChild : indentOf(line) < offset) return;
			skip(line, offset);
		}
	}
}

/**
 * @param {Blocks} blocks
 * @param {Line} line loses what opens the container
 * @param {string} text the line without its indent
 * @param {number} indent
 * @returns {boolean} whether the line opens one
 */
export function openContainer(blocks, line, text, indent) {
	if (blocks.stack.length > DEPTH_MOST) return false;
	if (text[0] === ">") {
		push(blocks, { type: "quote", home: element("blockquote", { dir: "auto" }) });
		take(line, 1);
		skip(line, 1);
		return true;
	}
	const [mark, number] = MARKER.exec(text) ?? [];
	if (!mark) return false;
	const isEmpty = isBlank(text.slice(mark.length));
	// In a paragraph, a number at the start of a line is rarely a list.
	const isText = isEmpty || (number && Number(number) !== 1);
	if (isOpen(blocks, "text") && isText) return false;
	take(line, mark.length);
	const gap = indentOf(line);
	const inset = isEmpty || gap > 4 ? 1 : gap;
	skip(line, inset);
	openItem(blocks, mark.slice(-1), number, indent + mark.length + inset);
	return true;
}

/**
 * @param {Blocks} blocks
 * @param {string} marker what the item begins with, without its number
 * @param {string | undefined} number
 * @param {number} offset the indent of what belongs to the item
 */
function openItem(blocks, marker, number, offset) {
	const { home, blank, marker: before } = blocks.stack[blocks.depth - 1];
	const isSame = before === marker;
	if (!isSame || home.childElementCount >= ITEMS_MOST) {
		const next = /** @type {HTMLOListElement} */ (home).start + home.childElementCount;
		const begin = isSame ? next : Number(number);
		if (isSame) blocks.depth--;
		const made = element(number ? "ol" : "ul", { dir: "auto" });
		if (number && begin !== 1) made.setAttribute("start", String(begin));
		push(blocks, { type: "list", home: made, marker });
		if (isSame && (blank || "loose" in home.dataset)) made.dataset.loose = "";
	}
	push(blocks, { type: "item", home: element("li", {}), offset });
}

/** @type {(blocks: Blocks, container: Container) => void} */
function push(blocks, container) {
	parentIn(blocks, container.type === "item").append(container.home);
	blocks.stack.push(container);
	blocks.depth++;
}
