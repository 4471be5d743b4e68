// @ts-check
/**
 * Block structure: which block a line belongs to (CommonMark 0.31 §3 to §5), without indented code
 * and underlined headings.
 *
 * A line is parsed once, when it is complete. Until then it is drawn as if it were, and removed
 * again before the next piece. So it does not matter in which pieces a text arrives.
 */

/** @import { Blocks, CodeLeaf, CreateBlocks, Line, TableLeaf } from "../types" */

import { element } from "../dom.js";
import {
	closeLeaf,
	closeUnmatched,
	innermost,
	isOpen,
	matchContainers,
	openContainer,
	parentIn,
} from "./containers.js";
import { add, addLine, drawLeaf, openCode, openText } from "./leaves.js";
import { indentOf, isBlank, skip } from "./line.js";
import { cut, decode } from "./syntax.js";
import { addRow, underline } from "./tables.js";

/** This many characters decide what a line is; the rest is more of the same. */
const HEAD_MOST = 2000;

const HEADING = /^(#{1,6})(?:[ \t]+|$)([^]*)/;
const FENCE = /^(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const MATH = /^(?:\$\$|\\\[)[ \t]*$/;
const RULE = /^([-*_])[ \t]*(?:\1[ \t]*){2,}$/;

/** @type {CreateBlocks} */
export function createBlocks(root, texts, heading) {
	/** @type {Blocks} */
	const blocks = {
		texts,
		heading,
		stack: [{ type: "root", home: root }],
		depth: 1,
		leaf: null,
		tail: "",
		isLong: false,
		undo() {},
	};
	return {
		write: text => write(blocks, text),
		draw() {
			blocks.undo();
			if (!isBlank(blocks.tail)) {
				beginDraft(blocks);
				read(blocks, blocks.tail);
			}
			drawLeaf(blocks.leaf, true);
		},
		close() {
			blocks.undo();
			if (blocks.tail) read(blocks, blocks.tail);
			blocks.tail = "";
			closeLeaf(blocks);
		},
	};
}

/**
 * Parses complete lines, and the beginning of one that is too long to hold back.
 * @type {(blocks: Blocks, text: string) => void}
 */
function write(blocks, text) {
	blocks.undo();
	const tail = blocks.tail + text;
	let at = 0;
	for (let ends = true; ; blocks.isLong = !ends) {
		const end = tail.indexOf("\n", at);
		ends = end >= 0 && end - at <= HEAD_MOST;
		if (!ends && tail.length - at <= HEAD_MOST) break;
		const piece = ends ? tail.slice(at, end) : cut(tail.slice(at), HEAD_MOST);
		read(blocks, piece);
		if (ends) closeHeading(blocks);
		at += piece.length + Number(ends);
	}
	blocks.tail = tail.slice(at);
}

/** A heading ends with its line. @param {Blocks} blocks */
function closeHeading(blocks) {
	const { leaf } = blocks;
	if (leaf?.type === "text" && leaf.tag !== "p") closeLeaf(blocks);
}

/** @type {(blocks: Blocks, text: string) => void} */
function read(blocks, text) {
	const { leaf, isLong } = blocks;
	if (isLong && leaf && leaf.type !== "table") add(leaf, text);
	else readLine(blocks, text);
}

/** @type {(blocks: Blocks, text: string) => void} */
function readLine(blocks, text) {
	const line = { text, column: 0 };
	matchContainers(blocks, line);
	const blank = isBlank(line.text);
	if (!continueCode(blocks, line)) {
		if (blank) closeUnmatched(blocks);
		else openBlocks(blocks, line);
	}
	const { stack, leaf } = blocks;
	// Only a quote's own marker tells its blank lines from those of its container.
	const quote = stack.findLastIndex(({ type }) => type === "quote");
	if (!blank) for (const each of stack) each.blank = false;
	else if (leaf?.type !== "code") for (const each of stack.slice(quote + 1)) each.blank = true;
}

/**
 * The line as the next one of code or math.
 * @type {(blocks: Blocks, line: Line) => boolean}
 * @returns whether it is
 */
function continueCode(blocks, line) {
	if (!isOpen(blocks, "code")) return false;
	const leaf = /** @type {CodeLeaf} */ (blocks.leaf);
	const { fence, indent, isMath } = leaf;
	const text = line.text.trim();
	if (isMath && !text) return false;
	const isEnd = text.startsWith(fence) && text === fence[0].repeat(text.length);
	if (!isMath && isEnd) closeLeaf(blocks);
	else {
		skip(line, indent);
		addLine(leaf, line.text);
		if (isMath && text.endsWith(fence)) closeLeaf(blocks);
	}
	return true;
}

/** Opens what the line opens. @type {(blocks: Blocks, line: Line) => void} */
function openBlocks(blocks, line) {
	while (!isBlank(line.text)) {
		const indent = indentOf(line);
		const text = line.text.replace(/^[ \t]+/, "");
		// Continued text may have any indent.
		if (!(isOpen(blocks, "text") && indent > 3)) {
			if (openLeaf(blocks, text, indent)) return;
			if (openContainer(blocks, line, text, indent)) continue;
		}
		return goOn(blocks, text);
	}
}

/**
 * Text that opens nothing continues what is open, or begins a paragraph.
 * @type {(blocks: Blocks, text: string) => void}
 */
function goOn(blocks, text) {
	const { leaf } = blocks;
	const parent = () => parentIn(blocks);
	if (leaf?.type === "text") addLine(leaf, text);
	else if (isOpen(blocks, "table")) {
		blocks.leaf = addRow(/** @type {TableLeaf} */ (leaf), text, parent);
	} else blocks.leaf = openText(parent(), innermost(blocks).type, "p", text);
}

/**
 * @type {(blocks: Blocks, text: string, indent: number) => boolean}
 * @returns whether the line opens a leaf
 */
function openLeaf(blocks, text, indent) {
	const { leaf, texts } = blocks;
	const parent = () => parentIn(blocks);
	const [, signs, title] = HEADING.exec(text) ?? [];
	const [, fence, info] = FENCE.exec(text) ?? [];
	const isOfText = leaf?.type === "text" && isOpen(blocks, "text");
	const table = isOfText && underline(leaf, text, parent);
	if (table) blocks.leaf = table;
	else if (signs) openHeading(blocks, signs.length, title);
	else if (fence) {
		const [language] = decode(info.trim()).split(/\s/);
		blocks.leaf = openCode(parent(), texts, fence, indent, language);
	} else if (MATH.test(text)) {
		const end = text[0] === "$" ? "$$" : "\\]";
		const math = openCode(parent(), texts, end, 0, "", true);
		addLine(math, text);
		blocks.leaf = math;
	} else if (RULE.test(text)) parent().append(element("hr", {}));
	else return false;
	return true;
}

/** @type {(blocks: Blocks, signs: number, title: string) => void} */
function openHeading(blocks, signs, title) {
	const level = Math.min(6, signs + blocks.heading - 1);
	const tag = /** @type {"h1"} */ (`h${level}`);
	const text = title.replace(/(^|[ \t]+)#+[ \t]*$/, "");
	blocks.leaf = openText(parentIn(blocks), innermost(blocks).type, tag, text);
}

/** Everything parsed from now on can be undone. @param {Blocks} blocks */
function beginDraft(blocks) {
	const { stack, leaf } = blocks;
	/** @type {(Node | null | undefined)[]} */
	const homes = stack.flatMap(({ home, part }) => [home, part]);
	if (leaf) homes.push(leaf.home.parentNode);
	if (leaf && leaf.type !== "text") homes.push(leaf.home);
	const ends = homes.map(home => ({ home, last: home?.lastChild }));
	blocks.stack = stack.map(each => ({ ...each, isDraft: true }));
	blocks.leaf = leaf && { ...leaf, isDraft: true };
	blocks.undo = () => {
		for (const { home, last } of ends) {
			while (home?.lastChild && home.lastChild !== last) home.lastChild.remove();
		}
		Object.assign(blocks, { stack, leaf, undo() {} });
	};
}
