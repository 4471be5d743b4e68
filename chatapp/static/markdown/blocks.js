// @ts-check
/**
 * Block structure: which line belongs to what (CommonMark 0.31 §3 to §5), without indented code and
 * underlined headings.
 *
 * A line is read once, when its end has come. Until then it is drawn as if it had, and taken back
 * before the next piece. So the pieces in which a text comes do not matter.
 */

import { element } from "../dom.js";
import { cut, decode } from "./inline.js";
import { add, addLine, addRow, drawLeaf, openCode, openText, underline } from "./leaves.js";

const DEPTH_MOST = 32;
/** So many blocks are laid out as one: a long answer does not cost more with each frame. */
const PART_MOST = 32;
/** A longer list goes on in another element, lest layout start from the top. */
const ITEMS_MOST = 200;
/** What a line is, so many characters tell; the rest is more of the same. */
const HEAD_MOST = 2000;

const HEADING = /^(#{1,6})(?:[ \t]+|$)([^]*)/;
const FENCE = /^(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const MATH = /^(?:\$\$|\\\[)[ \t]*$/;
const RULE = /^([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const MARKER = /^(?:[-+*]|(\d{1,9})[.)])(?=[ \t]|$)/;

/** The columns of white space at the begin of what is left of a line; tab stops are 4 apart. */
function indentOf({ text, column }) {
	let ahead = column;
	for (const char of text.match(/^[ \t]*/)[0]) ahead += char === " " ? 1 : 4 - (ahead % 4);
	return ahead - column;
}

/** Leaves white space out, part of a tab also. */
function skip(line, columns = Infinity) {
	for (let left = columns; left > 0 && /^[ \t]/.test(line.text); left--) {
		const width = line.text[0] === " " ? 1 : 4 - (line.column % 4);
		line.text = " ".repeat(width - 1) + line.text.slice(1);
		line.column++;
	}
}

/** Leaves a marker out, and the white space before it. */
function take(line, length) {
	skip(line);
	line.text = line.text.slice(length);
	line.column += length;
}

const isBlank = text => !/[^ \t]/.test(text);

/** @type {import("../types").CreateBlocks} */
export function createBlocks(root, texts, heading) {
	/** What holds the line's blocks, from the outside in. @type {any[]} */
	let stack = [{ type: "root", home: root }];
	/** The block that takes text. @type {any} */
	let leaf = null;
	/** What has come of the last line. */
	let tail = "";
	/** The tail goes on with a line whose begin was too long to wait. */
	let isLong = false;
	/** The containers of the stack that the line goes on with. */
	let depth = 1;

	/** Whether such a leaf is open in the innermost container, and the line goes on with that. */
	const isOpen = type => leaf?.type === type && depth === stack.length;

	function closeLeaf() {
		drawLeaf(leaf, false);
		leaf = null;
	}

	function closeUnmatched() {
		closeLeaf();
		stack.length = depth;
	}

	/** Makes room for a block in the innermost container that the line goes on with: the stack's last. */
	function parent(inList) {
		closeUnmatched();
		if (!inList && stack.at(-1).type === "list") stack.length = --depth;
		const holder = stack.at(-1);
		const { type, home, blank, part = home, isDraft } = holder;
		if (blank && home.firstChild && !isDraft) {
			const list = type === "item" ? stack.at(-2) : holder;
			if (list.type === "list") list.home.dataset.loose = "";
		}
		const isFull = !inList && part.childElementCount >= PART_MOST;
		if (!isFull && (holder.part || type !== "root")) return part;
		holder.part = element("div", { chat: "part" });
		home.append(holder.part);
		return holder.part;
	}

	function push(container) {
		parent(container.type === "item").append(container.home);
		stack.push(container);
		depth++;
	}

	/** Leaves `depth` at the containers that the line goes on with. */
	function matchContainers(line) {
		for (depth = 1; depth < stack.length; depth++) {
			const { type, offset, home } = stack[depth];
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

	/** The line as the next one of code or math. @returns {boolean} whether it is */
	function continueCode(line) {
		if (!isOpen("code")) return false;
		const { fence, indent, isMath } = leaf;
		const text = line.text.trim();
		if (isMath && !text) return false;
		if (!isMath && text.startsWith(fence) && text === fence[0].repeat(text.length)) closeLeaf();
		else {
			skip(line, indent);
			addLine(leaf, line.text);
			if (isMath && text.endsWith(fence)) closeLeaf();
		}
		return true;
	}

	/** Opens what the line opens. */
	function openBlocks(line) {
		while (!isBlank(line.text)) {
			const indent = indentOf(line);
			const text = line.text.replace(/^[ \t]+/, "");
			if (!(isOpen("text") && indent > 3)) {
				if (openLeaf(text, indent)) return;
				if (stack.length <= DEPTH_MOST && openContainer(line, text, indent)) continue;
			}
			if (leaf?.type === "text") addLine(leaf, text);
			else if (isOpen("table")) leaf = addRow(leaf, text, parent);
			else leaf = openText(parent(), stack.at(-1).type, "p", text);
			return;
		}
	}

	function openLeaf(text, indent) {
		const [, signs, title] = HEADING.exec(text) ?? [];
		const [, fence, info] = FENCE.exec(text) ?? [];
		const table = isOpen("text") && underline(leaf, text, parent);
		if (table) leaf = table;
		else if (signs) {
			const tag = /** @type {any} */ (`h${Math.min(6, signs.length + heading - 1)}`);
			leaf = openText(parent(), stack.at(-1).type, tag, title.replace(/(^|[ \t]+)#+[ \t]*$/, ""));
		} else if (fence) leaf = openCode(parent(), texts, fence, indent, decode(info.trim()).split(/\s/)[0]);
		else if (MATH.test(text)) {
			leaf = openCode(parent(), texts, text[0] === "$" ? "$$" : "\\]", 0, "", true);
			addLine(leaf, text);
		} else if (RULE.test(text)) parent().append(element("hr", {}));
		else return false;
		return true;
	}

	function openContainer(line, text, indent) {
		if (text[0] === ">") {
			push({ type: "quote", home: element("blockquote", { dir: "auto" }) });
			take(line, 1);
			skip(line, 1);
			return true;
		}
		const [mark, number] = MARKER.exec(text) ?? [];
		if (!mark) return false;
		const isEmpty = isBlank(text.slice(mark.length));
		if (isOpen("text") && (isEmpty || (number && Number(number) !== 1))) return false;
		take(line, mark.length);
		const gap = indentOf(line);
		const inset = isEmpty || gap > 4 ? 1 : gap;
		skip(line, inset);
		openItem(mark.at(-1), number, indent + mark.length + inset);
		return true;
	}

	function openItem(marker, number, offset) {
		const { home, blank, marker: before } = stack[depth - 1];
		const isSame = before === marker;
		if (!isSame || home.childElementCount >= ITEMS_MOST) {
			const begin = isSame ? home.start + home.childElementCount : Number(number);
			if (isSame) depth--;
			const made = element(number ? "ol" : "ul", { dir: "auto" });
			if (number && begin !== 1) made.setAttribute("start", begin);
			push({ type: "list", home: made, marker });
			if (isSame && (blank || "loose" in home.dataset)) made.dataset.loose = "";
		}
		push({ type: "item", home: element("li", {}), offset });
	}

	function readLine(text) {
		const line = { text, column: 0 };
		matchContainers(line);
		const blank = isBlank(line.text);
		if (!continueCode(line)) {
			if (blank) closeUnmatched();
			else openBlocks(line);
		}
		// Only a quote's own begin tells its blank lines from those of what holds it.
		const quote = stack.findLastIndex(({ type }) => type === "quote");
		if (!blank) for (const each of stack) each.blank = false;
		else if (leaf?.type !== "code") for (const each of stack.slice(quote + 1)) each.blank = true;
	}

	function read(text) {
		if (isLong && leaf && leaf.type !== "table") add(leaf, text);
		else readLine(text);
	}

	let undo = () => {};
	function beginDraft() {
		const before = { stack, leaf };
		const homes = stack.flatMap(({ home, part }) => [home, part]);
		if (leaf) homes.push(leaf.home.parentNode, leaf.type !== "text" && leaf.home);
		const ends = homes.map(home => [home, home?.lastChild]);
		stack = stack.map(each => ({ ...each, isDraft: true }));
		leaf = leaf && { ...leaf, isDraft: true };
		undo = () => {
			for (const [home, last] of ends) while (home && home.lastChild !== last) home.lastChild.remove();
			({ stack, leaf } = before);
			undo = () => {};
		};
	}

	return {
		write(text) {
			undo();
			tail += text;
			let at = 0;
			for (let ends = true; ; isLong = !ends) {
				const end = tail.indexOf("\n", at);
				ends = end >= 0 && end - at <= HEAD_MOST;
				if (!ends && tail.length - at <= HEAD_MOST) break;
				const piece = ends ? tail.slice(at, end) : cut(tail.slice(at), HEAD_MOST);
				read(piece);
				// A heading ends with its line.
				if (ends && (leaf?.tag ?? "p") !== "p") closeLeaf();
				at += piece.length + Number(ends);
			}
			tail = tail.slice(at);
		},
		draw() {
			undo();
			if (!isBlank(tail)) {
				beginDraft();
				read(tail);
			}
			drawLeaf(leaf, true);
		},
		close() {
			undo();
			if (tail) read(tail);
			tail = "";
			closeLeaf();
		},
	};
}
