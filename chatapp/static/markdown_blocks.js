// @ts-check
/**
 * Blocks: which line belongs to what (CommonMark 0.31 §3 to §5, GFM tables and tasks), without
 * indented code and underlined headings.
 *
 * A line is read once, when its end has come. Until then it is drawn as if it had, and taken back
 * before the next piece. So the pieces in which a text comes do not matter.
 */

import { button, copy, element } from "./dom.js";
import { addText, cut, decode, drawText, inline } from "./markdown_inline.js";

const DEPTH_MOST = 32;
/** So many blocks are laid out as one: a long answer does not cost more with each frame. */
const PART_MOST = 32;
/** What is longer goes on in another element, lest layout start from the top. */
const ITEMS_MOST = 200;
const ROWS_MOST = 100;
const PIECE_MOST = 8000;
const COLUMNS_MOST = 64;
/** What a line is, so many characters tell; the rest is more of the same. */
const HEAD_MOST = 2000;
const COPIED_MS = 2000;

const HEADING = /^(#{1,6})(?:[ \t]+|$)/;
const FENCE = /^(`{3,}(?=[^`]*$)|~{3,})(.*)$/;
const MATH = /^(?:\$\$|\\\[)[ \t]*$/;
const RULE = /^([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const MARKER = /^(?:[-+*]|(\d{1,9})[.)])(?=[ \t]|$)/;
/** The line below a table's head. */
const DELIMITERS = /^\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*$/;

const textIn = (home, tag, held) => ({ type: "text", tag, home, final: home.lastChild, rest: "", held, size: 0 });

/** The columns of white space at the begin of what is left of a line; tab stops are 4 apart. */
function indentOf({ text, column }) {
	let ahead = column;
	for (const char of text.match(/^[ \t]*/)[0]) ahead += char === " " ? 1 : 4 - (ahead % 4);
	return ahead - column;
}

/** Leaves white space out, part of a tab also. */
function skip(line, columns) {
	for (let left = columns; left > 0 && /^[ \t]/.test(line.text); left--) {
		const width = line.text[0] === " " ? 1 : 4 - (line.column % 4);
		line.text = " ".repeat(width - 1) + line.text.slice(1);
		line.column++;
	}
}

/** Leaves a marker out. */
function take(line, length) {
	line.text = line.text.slice(length);
	line.column += length;
}

const isBlank = text => !/[^ \t]/.test(text);

/** @returns {string[]} */
function cellsOf(line) {
	const cells = line.trim().replace(/^\|/, "").split(/(?<!\\)\|/);
	if (cells.length > 1 && isBlank(cells.at(-1))) cells.pop();
	return cells.map(cell => cell.trim().replaceAll("\\|", "|"));
}

/** How each column is aligned; null: this is no table. */
function columnsOf(head, line) {
	if (!/[|:]/.test(line) || !DELIMITERS.test(line) || !head.includes("|")) return null;
	const cells = cellsOf(line);
	if (cells.length > COLUMNS_MOST || cells.length !== cellsOf(head).length) return null;
	return cells.map(cell => (!cell.endsWith(":") ? "left" : cell[0] === ":" ? "center" : "right"));
}

/** @type {import("./types").CreateBlocks} */
export function createBlocks(root, texts, heading) {
	/** What holds the line's blocks, from the outside in. @type {any[]} */
	let stack = [{ type: "root", home: root }];
	/** The block that takes text. @type {any} */
	let leaf = null;
	/** What has come of the last line. */
	let tail = "";
	/** The tail goes on with a line whose begin was too long to wait. */
	let isLong = false;
	let isDraft = false;
	/** The containers of the stack that the line goes on with. */
	let depth = 1;

	function closeLeaf() {
		if (leaf?.type === "text") drawText(leaf, leaf.rest + leaf.held, false);
		leaf = null;
	}

	function closeUnmatched() {
		closeLeaf();
		stack.length = depth;
	}

	/** Makes room for a block in the innermost container that the line goes on with. */
	function parent(inList = false) {
		closeUnmatched();
		if (!inList && stack.at(-1).type === "list") stack.length = --depth;
		const holder = stack.at(-1);
		if (holder.blank && holder.home.firstChild && !isDraft) {
			const list = holder.type === "item" ? stack.at(-2) : holder;
			if (list.type === "list") list.home.dataset.loose = "";
		}
		const home = holder.part ?? holder.home;
		const isFull = !inList && home.childElementCount >= PART_MOST;
		if (!isFull && (holder.part || holder.type !== "root")) return home;
		holder.part = element("div", { chat: "part" });
		holder.home.append(holder.part);
		return holder.part;
	}

	function push(container) {
		parent(container.type === "item").append(container.home);
		stack.push(container);
		depth++;
	}

	/** @param {"p"} tag */
	function openText(tag, text) {
		const holder = parent();
		const { type } = stack.at(-1);
		const home = element(tag, type === "root" ? { dir: "auto" } : {});
		const task = tag === "p" && type === "item" && !holder.firstChild && /^\[([ xX])\][ \t]/.exec(text);
		if (task) home.append(element("span", { chat: "task" }, task[1] === " " ? "☐" : "☑"));
		holder.append(home);
		leaf = textIn(home, tag, task ? text.slice(3) : text);
	}

	/** More of a text or of code. */
	function add(text) {
		const { home } = leaf;
		if (leaf.type === "code" && leaf.size > PIECE_MOST) {
			leaf.home = element("span", {});
			home.after(leaf.home);
			leaf.size = 0;
		}
		leaf.size += text.length;
		if (leaf.type === "code") {
			if (leaf.home.lastChild && !isDraft) leaf.home.lastChild.appendData(text);
			else leaf.home.append(text);
			return;
		}
		addText(leaf, leaf.held);
		leaf.held = text;
		if (leaf.size <= PIECE_MOST) return;
		const more = home.cloneNode();
		more.dataset.chat = "more";
		closeLeaf();
		home.after(more);
		leaf = textIn(more, "p", "");
	}

	/** The next line of a text or of code. The last one is held: it may be a table's head. */
	function addLine(text) {
		if (leaf.type === "code") {
			if (leaf.size) add("\n");
			add(text);
			// Only the first line may be the next one of nothing.
			leaf.size ||= 1;
		} else add(`\n${text}`);
	}

	/** Math is code that has no language, and whose fence belongs to it. */
	function openCode(fence, indent, language = "", isMath = false) {
		const home = element("span", {});
		const code = element("code", {}, home);
		const copier = button(texts.copy, async () => {
			await copy(code.textContent ?? "");
			copier.textContent = texts.copied;
			setTimeout(() => (copier.textContent = texts.copy), COPIED_MS);
		});
		const head = element("figcaption", {}, element("span", {}, language), copier);
		const block = element("pre", { tabindex: "0", dir: "ltr" }, code);
		parent().append(element("figure", { chat: "code", "data-language": language }, head, block));
		leaf = { type: "code", home, fence, indent, size: 0, isMath };
	}

	function row(tag, columns, line) {
		const cells = cellsOf(line).slice(0, columns.length);
		const made = cells.map((text, at) => element(tag, { dir: "auto", "data-align": columns[at] }, inline(text)));
		return element("tr", {}, ...made);
	}

	function openTable(columns, head) {
		const home = element("tbody", {});
		const table = element("div", { chat: "table", tabindex: "0" }, element("table", {}, head, home));
		parent().append(table);
		leaf = { type: "table", home, head, columns };
	}

	/** Whether the line below a paragraph makes a table of its end. */
	function underline(line) {
		const columns = isDraft ? null : columnsOf(leaf.held, line);
		if (!columns) return false;
		const { home, final, rest, held } = leaf;
		if (final || rest) leaf.held = "";
		else {
			home.remove();
			leaf = null;
		}
		openTable(columns, element("thead", {}, row("th", columns, held)));
		return true;
	}

	/** Leaves `depth` at the containers that the line goes on with. */
	function matchContainers(line) {
		for (depth = 1; depth < stack.length; depth++) {
			const { type, offset, home } = stack[depth];
			const indent = indentOf(line);
			if (type === "quote") {
				if (line.text.trimStart()[0] !== ">") return;
				takeQuote(line, indent);
			} else if (type === "item") {
				if (isBlank(line.text) ? !home.firstChild : indent < offset) return;
				skip(line, offset);
			}
		}
	}

	function takeQuote(line, indent) {
		skip(line, indent);
		take(line, 1);
		skip(line, 1);
	}

	/** The line as the next one of code or math. @returns {boolean} whether it is */
	function continueCode(line) {
		if (leaf?.type !== "code" || depth < stack.length) return false;
		const { fence, indent, isMath } = leaf;
		const text = line.text.trim();
		if (isMath && !text) return false;
		if (!isMath && text.startsWith(fence) && text === fence[0].repeat(text.length)) closeLeaf();
		else {
			skip(line, indent);
			addLine(line.text);
			if (isMath && text.endsWith(fence)) closeLeaf();
		}
		return true;
	}

	/** Opens what the line opens. */
	function openBlocks(line) {
		while (!isBlank(line.text)) {
			const indent = indentOf(line);
			const text = line.text.replace(/^[ \t]+/, "");
			const isHere = depth === stack.length;
			const isParagraph = leaf?.tag === "p";
			if (!(isParagraph && isHere && indent > 3)) {
				if (openLeaf(text, indent)) return;
				if (stack.length <= DEPTH_MOST && openContainer(line, text, indent)) continue;
			}
			if (isParagraph) addLine(text);
			else if (leaf?.type === "table" && isHere) addRow(text);
			else openText("p", text);
			return;
		}
	}

	function addRow(text) {
		const { columns, head, home } = leaf;
		if (home.childElementCount >= ROWS_MOST) openTable(columns, head.cloneNode(true));
		leaf.home.append(row("td", columns, text));
	}

	function openLeaf(text, indent) {
		const [mark, signs] = HEADING.exec(text) ?? [""];
		const [, fence, info] = FENCE.exec(text) ?? [];
		if (signs) {
			const tag = /** @type {any} */ (`h${Math.min(6, signs.length + heading - 1)}`);
			openText(tag, text.slice(mark.length).replace(/(^|[ \t]+)#+[ \t]*$/, ""));
		} else if (fence) openCode(fence, indent, decode(info.trim()).split(/\s/)[0]);
		else if (MATH.test(text)) {
			openCode(text[0] === "$" ? "$$" : "\\]", 0, "", true);
			addLine(text);
		} else if (leaf?.type === "text" && depth === stack.length && underline(text)) return true;
		else if (RULE.test(text)) parent().append(element("hr", {}));
		else return false;
		return true;
	}

	function openContainer(line, text, indent) {
		if (text[0] === ">") {
			push({ type: "quote", home: element("blockquote", { dir: "auto" }) });
			takeQuote(line, indent);
			return true;
		}
		const [mark, number] = MARKER.exec(text) ?? [];
		if (!mark) return false;
		const isEmpty = isBlank(text.slice(mark.length));
		const interrupts = leaf?.type === "text" && depth === stack.length;
		if (interrupts && (isEmpty || (number && Number(number) !== 1))) return false;
		skip(line, indent);
		take(line, mark.length);
		const gap = indentOf(line);
		const inset = isEmpty || gap > 4 ? 1 : gap;
		skip(line, inset);
		openItem(mark.at(-1), number, indent + mark.length + inset);
		return true;
	}

	function openItem(marker, number, offset) {
		const { type, home, blank, ...list } = stack[depth - 1];
		const isSame = type === "list" && list.marker === marker;
		if (!isSame || home.childElementCount >= ITEMS_MOST) {
			const begin = isSame ? home.start + home.childElementCount : Number(number);
			if (isSame) depth--;
			const made = element(number ? "ol" : "ul", { dir: "auto" });
			if (number && begin !== 1) made.setAttribute("start", String(begin));
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
		if (isLong && leaf && leaf.type !== "table") add(text);
		else readLine(text);
	}

	let undo = () => {};
	function beginDraft() {
		const before = { stack, leaf };
		const homes = stack.flatMap(({ home, part }) => [home, part]);
		if (leaf) homes.push(leaf.home.parentNode, leaf.type === "text" ? null : leaf.home);
		const ends = homes.map(home => [home, home?.lastChild]);
		stack = stack.map(each => ({ ...each }));
		leaf = leaf && { ...leaf };
		isDraft = true;
		undo = () => {
			for (const [home, last] of ends) while (home && home.lastChild !== last) home.lastChild.remove();
			({ stack, leaf } = before);
			isDraft = false;
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
				if (ends && leaf?.tag !== "p" && leaf?.type === "text") closeLeaf();
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
			if (leaf?.type === "text") drawText(leaf, leaf.rest + leaf.held, true);
		},
		close() {
			undo();
			if (tail) read(tail);
			tail = "";
			closeLeaf();
		},
	};
}
