// @ts-check
/** Leaf blocks as nodes that grow: text, code, tables (CommonMark 0.31 §4, GFM tables and tasks). */

import { button, copy, element } from "../dom.js";
import { addText, drawText, inline } from "./inline.js";

/** What is longer goes on in another element, lest layout start from the top. */
const ROWS_MOST = 100;
const PIECE_MOST = 8000;

const COLUMNS_MOST = 64;
const COPIED_MS = 2000;

/** The line below a table's head. */
const DELIMITERS = /^(?=.*[|:])\|?(?:[ \t]*:?-+:?[ \t]*(?:\||$))+[ \t]*$/;

/** @returns {import("../types").TextLeaf} */
const textIn = (home, tag, held) => ({ type: "text", tag, home, final: home.lastChild, rest: "", held, size: 0 });

/** @type {import("../types").OpenText} */
export function openText(holder, within, tag, text) {
	const home = element(tag, within === "root" ? { dir: "auto" } : {});
	const task = tag === "p" && within === "item" && !holder.firstChild && /^\[([ xX])\][ \t]/.exec(text);
	if (task) home.append(element("span", { chat: "task" }, task[1] === " " ? "☐" : "☑"));
	holder.append(home);
	return textIn(home, tag, task ? text.slice(3) : text);
}

/** Math is code that has no language, and whose fence belongs to it. @type {import("../types").OpenCode} */
export function openCode(holder, texts, fence, indent, language, isMath) {
	const home = element("span", {});
	const code = element("code", {}, home);
	const copier = button(texts.copy, async () => {
		await copy(code.textContent ?? "");
		copier.textContent = texts.copied;
		setTimeout(() => (copier.textContent = texts.copy), COPIED_MS);
	});
	holder.append(
		element(
			"figure",
			{ chat: "code", "data-language": language },
			element("figcaption", {}, element("span", {}, language), copier),
			element("pre", { tabindex: "0", dir: "ltr" }, code),
		),
	);
	return { type: "code", home, fence, indent, size: 0, isMath };
}

/** More of a text or of code. @type {import("../types").Add} */
export function add(leaf, text) {
	/** @type {any} */
	const { home } = leaf;
	if (leaf.type === "code" && leaf.size > PIECE_MOST) {
		leaf.home = element("span", {});
		home.after(leaf.home);
		leaf.size = 0;
	}
	leaf.size += text.length;
	if (leaf.type === "code") {
		/** @type {any} */
		const last = !leaf.isDraft && leaf.home.lastChild;
		if (last) last.appendData(text);
		else leaf.home.append(text);
		return;
	}
	addText(leaf, leaf.held);
	leaf.held = text;
	if (leaf.size <= PIECE_MOST) return;
	const more = home.cloneNode();
	more.dataset.chat = "more";
	drawLeaf(leaf, false);
	home.after(more);
	Object.assign(leaf, textIn(more, "p", ""));
}

/**
 * The next line of a text or of code. The last one is held: it may be a table's head.
 * @type {import("../types").Add}
 */
export function addLine(leaf, text) {
	if (leaf.type === "code") {
		if (leaf.size) add(leaf, "\n");
		add(leaf, text);
		// Only the first line may be the next one of nothing.
		leaf.size ||= 1;
	} else add(leaf, `\n${text}`);
}

/** Draws a text as far as it has come; all else is drawn already. @type {import("../types").DrawLeaf} */
export function drawLeaf(leaf, open) {
	if (leaf?.type === "text") drawText(leaf, leaf.rest + leaf.held, open);
}

/** @returns {string[]} */
const cellsOf = line =>
	line
		.trim()
		.replace(/^\||(?<!\\)\|$/g, "")
		.split(/(?<!\\)\|/)
		.map(cell => cell.trim().replaceAll("\\|", "|"));

/** How each column is aligned; null: this is no table. */
function columnsOf(head, line) {
	if (!DELIMITERS.test(line) || !head.includes("|")) return null;
	const cells = cellsOf(line);
	if (cells.length > COLUMNS_MOST || cells.length !== cellsOf(head).length) return null;
	return cells.map(cell => (!cell.endsWith(":") ? "left" : cell[0] === ":" ? "center" : "right"));
}

function row(tag, columns, line) {
	const cell = (text, at) => element(tag, { dir: "auto", "data-align": columns[at] }, inline(text));
	return element("tr", {}, ...cellsOf(line).slice(0, columns.length).map(cell));
}

/** @returns {import("../types").TableLeaf} */
function openTable(holder, columns, head) {
	const home = element("tbody", {});
	holder.append(element("div", { chat: "table", tabindex: "0" }, element("table", {}, head, home)));
	return { type: "table", home, head, columns };
}

/** What the line below a text makes of its end: a table, or null. @type {import("../types").Underline} */
export function underline(leaf, line, parent) {
	const { home, final, rest, held } = leaf;
	const columns = !leaf.isDraft && columnsOf(held, line);
	if (!columns) return null;
	leaf.held = "";
	if (!final && !rest) home.remove();
	return openTable(parent(), columns, element("thead", {}, row("th", columns, held)));
}

/** The next row, of another table if this one is full. @type {import("../types").AddRow} */
export function addRow(leaf, text, parent) {
	const { home, columns, head } = leaf;
	const table = home.childElementCount < ROWS_MOST ? leaf : openTable(parent(), columns, head.cloneNode(true));
	table.home.append(row("td", columns, text));
	return table;
}
