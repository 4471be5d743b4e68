// @ts-check
/** Tables as GitHub writes them (GFM §4.10). */

import { element } from "./dom.js";
import { createInline } from "./markdown_inline.js";

/** @typedef {ReturnType<typeof createTable>} Table */

const COLUMNS_MOST = 64;
/** A longer table goes on in another one, below the same head: layout never starts from the top. */
const ROWS_MOST = 100;

/** The line below a table's head. */
const DELIMITERS = /^\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?$/;

/** @param {string} line @returns {string[]} */
function cellsOf(line) {
  const row = line.trim().replace(/^\|/, "");
  const cells = row.split(/(?<!\\)\|/);
  if (cells.length > 1 && !cells[cells.length - 1].trim()) cells.pop();
  return cells.map((cell) => cell.trim().replaceAll("\\|", "|"));
}

/**
 * @param {string} head
 * @param {string} line the one below it
 * @returns {string[] | null} how each column is aligned; null: this is no table
 */
export function alignments(head, line) {
  const rule = line.trimEnd();
  if (!/[|:]/.test(rule) || !DELIMITERS.test(rule) || !head.includes("|")) return null;
  const cells = cellsOf(rule);
  if (cells.length > COLUMNS_MOST || cells.length !== cellsOf(head).length) return null;
  return cells.map((cell) => {
    const [start, end] = [cell.startsWith(":"), cell.endsWith(":")];
    return start && end ? "center" : end ? "right" : start ? "left" : "";
  });
}

/**
 * @param {ParentNode} home
 * @param {string[]} columns how each is aligned
 * @param {string} first the head's line
 */
export function createTable(home, columns, first) {
  /** @param {"th" | "td"} tag @param {string} line */
  function row(tag, line) {
    const made = element("tr", {});
    for (const [index, text] of cellsOf(line).slice(0, columns.length).entries()) {
      const cell = element(tag, { dir: "auto" });
      if (columns[index]) cell.dataset.align = columns[index];
      made.append(cell);
      const inline = createInline(cell, false);
      inline.add(text);
      inline.close();
    }
    return made;
  }

  const head = element("thead", {}, row("th", first));
  let rows = 0;
  let body = element("tbody", {});
  /** @type {HTMLElement | null} the row that is being written */
  let draft = null;

  /** @param {Node} top */
  function begin(top) {
    body = element("tbody", {});
    rows = 0;
    const table = element("table", {}, top);
    // A table without rows has no body.
    home.append(element("div", { chat: "table", tabindex: "0" }, table));
    return table;
  }

  let table = begin(head);
  return {
    text: head.textContent ?? "",
    /** @param {string} line */
    row(line) {
      draft?.remove();
      draft = null;
      if (rows === ROWS_MOST) table = begin(head.cloneNode(true));
      if (!rows++) table.append(body);
      body.append(row("td", line));
    },
    /** @param {string} line shown until the next call */
    draft(line) {
      draft?.remove();
      draft = line.startsWith("|") ? row("td", line) : null;
      if (draft) (rows ? body : head).append(draft);
    },
  };
}
