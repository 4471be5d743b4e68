// @ts-check
/** Tables (GFM), which grow by rows. */

/** @import { AddRow, Columns, TableLeaf, Underline } from "../types" */

import { element } from "../dom.js";
import { inline } from "./inline.js";

/** A longer table continues in another one, so that layout need not start from the top. */
const ROWS_MOST = 100;
const COLUMNS_MOST = 64;

/** The line below a table's head. */
const DELIMITERS = /^(?=.*[|:])\|?(?:[ \t]*:?-+:?[ \t]*(?:\||$))+[ \t]*$/;

/** What the line below a text makes of its end: a table, or null. @type {Underline} */
export function underline(leaf, line, parent) {
	const { home, final, rest, held } = leaf;
	const columns = leaf.isDraft ? null : columnsOf(held, line);
	if (!columns) return null;
	leaf.held = "";
	if (!final && !rest) home.remove();
	return openTable(parent(), columns, element("thead", {}, row("th", columns, held)));
}

/** The next row, of another table if this one is full. @type {AddRow} */
export function addRow(leaf, text, parent) {
	const { home, columns, head } = leaf;
	const isFull = home.childElementCount >= ROWS_MOST;
	const again = () => /** @type {HTMLElement} */ (head.cloneNode(true));
	const table = isFull ? openTable(parent(), columns, again()) : leaf;
	table.home.append(row("td", columns, text));
	return table;
}

/** @type {(holder: HTMLElement, columns: Columns, head: HTMLElement) => TableLeaf} */
function openTable(holder, columns, head) {
	const home = element("tbody", {});
	const table = element("table", {}, head, home);
	holder.append(element("div", { chat: "table", tabindex: "0" }, table));
	return { type: "table", home, head, columns };
}

/** @type {(tag: "th" | "td", columns: Columns, line: string) => HTMLElement} */
function row(tag, columns, line) {
	const cells = cellsOf(line).slice(0, columns.length);
	const made = cells.map((text, at) =>
		element(tag, { dir: "auto", "data-align": columns[at] }, inline(text)),
	);
	return element("tr", {}, ...made);
}

/**
 * The columns' alignments; null: not a table.
 * @type {(head: string, line: string) => Columns | null}
 */
function columnsOf(head, line) {
	if (!DELIMITERS.test(line) || !head.includes("|")) return null;
	const cells = cellsOf(line);
	if (cells.length > COLUMNS_MOST || cells.length !== cellsOf(head).length) return null;
	return cells.map(cell => {
		if (!cell.endsWith(":")) return "left";
		return cell[0] === ":" ? "center" : "right";
	});
}

/** @param {string} line */
function cellsOf(line) {
	const inner = line.trim().replace(/^\||(?<!\\)\|$/g, "");
	return inner.split(/(?<!\\)\|/).map(cell => cell.trim().replaceAll("\\|", "|"));
}
