// @ts-check
/**
 * The text inside one block: emphasis, links, code, math (CommonMark 0.31 §6, GFM strikethrough).
 *
 * A block grows while it is read. What no later character can change is written for good; the rest,
 * at most `SPAN_MOST` characters, is drawn anew each time. Where that ends depends on the text
 * alone, not on the pieces in which it came.
 */

import { element } from "./dom.js";
import { scan } from "./markdown_scan.js";

/**
 * @typedef {import("./markdown_scan.js").Kind} Kind
 * @typedef {import("./markdown_scan.js").Scan} Scan
 */

/** What is not closed within so many characters is text. */
const SPAN_MOST = 2000;
/** A longer block goes on in an element of its own: layout never starts from the top. */
const PIECE_MOST = 8000;

/**
 * @param {Node & ParentNode} home
 * @param {Scan["tokens"]} tokens
 */
function build(home, tokens) {
  const path = [home];
  /** How deep inside of an image's name, where nothing but text is drawn. */
  let hidden = 0;
  let links = 0;
  let text = "";

  function flush() {
    const parent = path[path.length - 1];
    const last = parent.lastChild;
    if (text && last instanceof Text && last.length < PIECE_MOST) last.appendData(text);
    else if (text) parent.append(text);
    text = "";
    return parent;
  }

  /** @param {Kind} kind */
  function enter({ tag, attributes = {} }) {
    if (hidden) return void hidden++;
    const made = element(tag, attributes);
    flush().append(made);
    path.push(made);
    if (tag === "a") links++;
    if (attributes.chat) hidden = 1;
  }

  function leave() {
    if (hidden > 1) return void hidden--;
    flush();
    const left = path.pop();
    if (!(left instanceof HTMLAnchorElement)) return;
    links--;
    if (hidden && !left.firstChild) left.append(left.href);
    hidden = 0;
  }

  for (const token of tokens) {
    if (typeof token === "string") text += token;
    else if ("opens" in token) {
      for (let left = token.closes; left > 0; left--) leave();
      text += token.text;
      token.opens.forEach(enter);
    } else if (hidden || (links && token.kind.tag === "a")) text += token.text;
    else {
      const { tag, attributes } = token.kind;
      flush().append(element(tag, attributes ?? {}, token.text));
    }
  }
  flush();
}

/**
 * Writes inline Markdown into an empty element, as it comes.
 * @param {HTMLElement} home the last child of its parent, for as long as it grows
 * @param {boolean} [task] may begin with the box of a task
 */
export function createInline(home, task = false) {
  let rest = "";
  let before = "";
  let room = PIECE_MOST;
  /** @type {ChildNode | null} the last node that is final */
  let final = null;

  function clear() {
    while (home.lastChild !== final) home.lastChild?.remove();
  }

  /** @param {Scan} scanned */
  function keep({ tokens, safe, kept }) {
    build(home, tokens.slice(0, kept));
    before = rest.slice(Math.max(0, safe - 2), safe).match(/.$/su)?.[0] ?? before;
    rest = rest.slice(safe);
    room -= safe;
    if (room <= 0 && rest) {
      const more = /** @type {HTMLElement} */ (home.cloneNode());
      more.dataset.chat = "more";
      home.after(more);
      home = more;
      room = PIECE_MOST;
    }
    final = home.lastChild;
  }

  /** @param {boolean} last */
  function draw(last) {
    if (task && rest.length < 4 && !last) return;
    clear();
    const box = task && /^\[([ xX])\]\s/.exec(rest);
    task = false;
    if (box) {
      final = element("span", { chat: "task" }, box[1] === " " ? "☐" : "☑");
      home.append(final);
      rest = rest.slice(3);
    }
    while (rest) {
      const full = rest.length > SPAN_MOST;
      const source = full ? rest.slice(0, SPAN_MOST).replace(/[\ud800-\udbff]$/, "") : rest;
      let scanned = scan(source, before, full || !last ? "open" : "last", room);
      if (full && !scanned.safe) scanned = scan(source, before, "cut", room);
      const piece = home;
      if (scanned.safe) keep(scanned);
      if (full || last || piece !== home) continue;
      const loose = document.createDocumentFragment();
      build(loose, scanned.tokens.slice(scanned.kept));
      home.append(loose);
      return;
    }
  }

  return {
    /** @param {string} text */
    add(text) {
      rest += text;
    },
    draw: () => draw(false),
    /** Nothing follows. */
    close: () => draw(true),
  };
}
