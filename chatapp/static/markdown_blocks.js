// @ts-check
/**
 * Blocks: which line belongs to what (CommonMark 0.31 §3 to §5, GFM tables and tasks).
 *
 * A line is held back until its beginning tells what it is, at most `HEAD_MOST` characters; the
 * rest goes to the open block as it comes. So each line is decided once, by the text alone.
 */

import { createCode } from "./markdown_code.js";
import { element } from "./dom.js";
import { createInline } from "./markdown_inline.js";
import { decode } from "./markdown_links.js";
import { alignments, createTable } from "./markdown_table.js";

/**
 * @typedef {object} Container what holds blocks
 * @property {"root" | "quote" | "list" | "item"} type
 * @property {HTMLElement} home
 * @property {HTMLElement} [part] the end of it, for what follows
 * @property {string} [marker] of a list: its bullet, or what follows its numbers
 * @property {number} [offset] of an item: the columns that its lines are indented by
 * @property {boolean} blank its last line was
 *
 * @typedef {object} Leaf the open block: what lines of text go to
 * @property {"paragraph" | "heading" | "fence" | "indented" | "math" | "table"} type
 * @property {(text: string) => void} add
 * @property {() => void} draw
 * @property {() => void} close nothing follows
 * @property {HTMLElement} [home] of a paragraph
 * @property {string} [source] of a paragraph: all of it, while it is short
 * @property {string} [fence] of code: what ends it
 * @property {number} [indent] of code: the columns to leave out at each line's begin
 * @property {(text: string) => void} [line] of code: adds the next line, or its begin
 * @property {string} [tail] of math: the end of what was added
 * @property {import("./markdown_table.js").Table} [table]
 */

const DEPTH_MOST = 32;
/** So many blocks are laid out as one: a long answer does not cost more with each frame. */
const PART_MOST = 32;
/** A longer list goes on in another one. */
const ITEMS_MOST = 200;
/** What a line is, its first characters tell. A longer one is no rule, fence or row. */
const HEAD_MOST = 4000;
/** A heading does not end with more white space and `#` than this. */
const CLOSING_MOST = 200;
/** A longer paragraph does not become a heading or a table by the line below it. */
const SOURCE_MOST = 8000;

/** With one of these on it, a line cannot be a rule, an underline or a marker alone. */
const SOLID = /[^\s>#*+\-=_|:.)\d`~$\\[\]]/;
const ATX = /^(#{1,6})(?:[ \t]+|$)/;
const FENCE = /^(?:(`{3,})([^`]*)|(~{3,})(.*))$/;
const MATH = /^(?:\$\$|\\\[)[ \t]*$/;
const SETEXT = /^(?:=+|-+)[ \t]*$/;
const RULE = /^([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const MARKER = /^(?:[-+*]|(\d{1,9})[.)])(?=[ \t]|$)/;
const RTL = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;

/** A line, read from its begin; columns as tabs stops of 4 count them. @param {string} text */
function createLine(text) {
  let at = 0;
  let column = 0;

  return {
    rest: () => text.slice(at),
    isBlank: () => !/[^ \t]/.test(text.slice(at)),
    /** The columns of white space ahead. */
    indent() {
      let ahead = column;
      for (let next = at; text[next] === " " || text[next] === "\t"; next++) {
        ahead += text[next] === " " ? 1 : 4 - (ahead % 4);
      }
      return ahead - column;
    },
    /** Leaves out white space, part of a tab also. @param {number} columns at most */
    skip(columns) {
      for (let left = columns; left > 0; left--, column++) {
        if (text[at] === "\t") {
          const width = 4 - (column % 4);
          text = text.slice(0, at) + " ".repeat(width) + text.slice(at + 1);
        }
        if (text[at] !== " ") return;
        at++;
      }
    },
    /** @param {number} length of a marker */
    take(length) {
      at += length;
      column += length;
    },
  };
}

/** @typedef {ReturnType<typeof createLine>} Line */

/**
 * @param {HTMLElement} root
 * @param {{strings: import("./markdown_code.js").Strings, heading: number}} options `heading`: the
 *   level of `#`
 */
export function createBlocks(root, { strings, heading }) {
  /** @type {Container[]} */
  const stack = [{ type: "root", home: root, blank: false }];
  /** @type {Leaf | null} */
  let leaf = null;
  /** The line's begin, not decided yet; null: its rest goes to the leaf. @type {string | null} */
  let head = "";
  /** The containers of the stack that the line goes on with. */
  let depth = 1;

  const top = () => stack[stack.length - 1];

  function closeLeaf() {
    leaf?.close();
    leaf = null;
  }

  function closeUnmatched() {
    closeLeaf();
    stack.length = depth;
  }

  /** Makes room for a block in the innermost container that the line goes on with. */
  function parent(inList = false) {
    closeUnmatched();
    if (!inList && top().type === "list") stack.length = --depth;
    const holder = top();
    if (holder.blank && holder.home.firstChild && /^(item|list)$/.test(holder.type)) {
      const list = stack[stack.length - (holder.type === "item" ? 2 : 1)];
      list.home.dataset.loose = "";
    }
    const home = holder.part ?? holder.home;
    const full = !inList && home.childElementCount >= PART_MOST;
    if (!full && (holder.part || holder.type !== "root")) return home;
    holder.part = element("div", { chat: "part" });
    holder.home.append(holder.part);
    return holder.part;
  }

  /** @param {Omit<Container, "blank">} container */
  function push(container) {
    parent(container.type === "item").append(container.home);
    stack.push({ ...container, blank: false });
    depth++;
  }

  /** The first letter in it decides from where a container is read. @param {string} text */
  function direct(text) {
    const letter = top().home.dir || /\p{L}/u.exec(text)?.[0];
    for (const { home, type } of letter ? stack : []) {
      if (type !== "root") home.dir ||= RTL.test(letter ?? "") ? "rtl" : "ltr";
    }
  }

  /** @param {string} text */
  function openParagraph(text) {
    const holder = parent();
    const home = element("p", { dir: "auto" });
    const task = top().type === "item" && !holder.firstChild;
    holder.append(home);
    const inline = createInline(home, task);
    /** @type {Leaf} */
    const made = {
      ...inline,
      type: "paragraph",
      home,
      source: "",
      add(more) {
        direct(more);
        if ((made.source ?? "").length <= SOURCE_MOST) made.source += more;
        inline.add(more);
      },
    };
    leaf = made;
    made.add(text);
  }

  /** @param {number} level @param {string} text */
  function openHeading(level, text) {
    const tag = /** @type {"h1"} */ (`h${Math.min(6, level + heading - 1)}`);
    const holder = parent();
    const home = element(tag, { dir: "auto" });
    holder.append(home);
    const inline = createInline(home);
    // The white space and `#` at its end belong to it only if more follows.
    let held = "";
    let empty = true;
    let long = false;
    /** @param {string} more */
    const add = (more) => {
      direct(more);
      let end = more.length;
      while (end && /[ \t#]/.test(more[end - 1])) end--;
      if (end) {
        inline.add(held + more.slice(0, end));
        empty = long = false;
        held = "";
      }
      held += more.slice(end);
      long ||= held.length > CLOSING_MOST;
      if (!long) return;
      inline.add(held);
      held = "";
    };
    const close = () => {
      inline.add(held.trimEnd().replace(empty ? /(?:^|[ \t]+)#+$/ : /[ \t]+#+$/, ""));
      inline.close();
    };
    leaf = { type: "heading", add, draw: inline.draw, close };
    add(text);
  }

  /** @param {string} mark @param {string} info @param {number} indent */
  function openFence(mark, info, indent) {
    const language = decode(info.trim()).split(/\s/)[0];
    openCode("fence", language, { fence: mark, indent });
  }

  /**
   * @param {"fence" | "indented" | "math"} type
   * @param {string | null} language
   * @param {Partial<Leaf>} [more]
   */
  function openCode(type, language, more) {
    const code = createCode(parent(), language, strings);
    let lines = 0;
    // Blank lines belong to indented code only if more follows.
    let held = "";
    let blank = false;
    /** @type {Leaf} */
    const made = {
      ...code,
      ...more,
      type,
      add(text) {
        held += text;
        made.tail = ((made.tail ?? "") + text).slice(-16);
        blank &&= !/[^ \t\n]/.test(text);
        if (blank) return;
        code.add(held);
        held = "";
      },
      line(text) {
        blank = type === "indented";
        made.add(lines++ ? `\n${text}` : text);
      },
    };
    leaf = made;
  }

  /** The paragraph without its last line, which turned out to be something else. */
  function takeLastLine() {
    const { home, source = "" } = /** @type {Leaf} */ (leaf);
    const cut = source.lastIndexOf("\n");
    leaf = null;
    home?.remove();
    if (cut >= 0) openParagraph(source.slice(0, cut));
    closeLeaf();
    return source.slice(cut + 1);
  }

  /** @param {string} line below a paragraph @returns {boolean} whether it makes it something else */
  function underline(line) {
    const source = leaf?.source ?? "";
    if (source.length > SOURCE_MOST) return false;
    if (SETEXT.test(line)) {
      leaf?.home?.remove();
      leaf = null;
      openHeading(line[0] === "=" ? 1 : 2, source);
      closeLeaf();
      return true;
    }
    const columns = alignments(source.slice(source.lastIndexOf("\n") + 1), line);
    if (!columns) return false;
    const first = takeLastLine();
    const table = createTable(parent(), columns, first);
    direct(table.text);
    leaf = { type: "table", table, add() {}, draw() {}, close: () => table.draft("") };
    return true;
  }

  /** Leaves `depth` at the containers that the line goes on with. @param {Line} line */
  function matchContainers(line) {
    for (depth = 1; depth < stack.length; depth++) {
      const { type, offset = 0, home } = stack[depth];
      const indent = line.indent();
      if (type === "quote") {
        if (indent > 3 || line.rest().trimStart()[0] !== ">") return;
        takeQuote(line, indent);
      } else if (type === "item") {
        if (line.isBlank() ? !home.firstChild : indent < offset) return;
        line.skip(offset);
      }
    }
  }

  /** @param {Line} line @param {number} indent */
  function takeQuote(line, indent) {
    line.skip(indent);
    line.take(1);
    line.skip(1);
  }

  /**
   * The line as the next one of an open block that only its own end closes.
   * @param {Line} line @param {boolean} whole @returns {boolean} whether it is
   */
  function continueLeaf(line, whole) {
    if (!leaf || depth < stack.length) return false;
    const indent = line.indent();
    const text = line.rest().trim();
    if (leaf.type === "fence") {
      const { fence = "", indent: inset = 0 } = leaf;
      const same = text.startsWith(fence) && text === fence[0].repeat(text.length);
      if (whole && indent < 4 && same) closeLeaf();
      else {
        line.skip(inset);
        leaf.line?.(line.rest());
      }
      return true;
    }
    if (leaf.type === "math" && !(whole && line.isBlank())) {
      leaf.line?.(line.rest());
      return true;
    }
    if (leaf.type !== "indented" || (indent < 4 && !(whole && line.isBlank()))) return false;
    line.skip(4);
    leaf.line?.(line.rest());
    return true;
  }

  /**
   * Opens what the line opens.
   * @param {Line} line @param {boolean} whole @returns {boolean} whether nothing of it is left
   */
  function openBlocks(line, whole) {
    while (!line.isBlank()) {
      const indent = line.indent();
      const inParagraph = leaf?.type === "paragraph";
      if (indent > 3) {
        if (inParagraph) return false;
        line.skip(4);
        openCode("indented", "");
        leaf?.line?.(line.rest());
        return true;
      }
      const text = line.rest().trimStart();
      if (openLeaf(text, whole, indent)) return true;
      if (stack.length > DEPTH_MOST || !openContainer(line, text, indent)) return false;
    }
    return false;
  }

  /** @param {string} text @param {boolean} whole @param {number} indent */
  function openLeaf(text, whole, indent) {
    const atx = ATX.exec(text);
    const matched = depth === stack.length;
    if (atx && (whole || atx[0].length < text.length)) {
      openHeading(atx[1].length, text.slice(atx[0].length));
      return true;
    }
    if (!whole) return false;
    const fence = FENCE.exec(text);
    if (fence) openFence(fence[1] ?? fence[3], fence[2] ?? fence[4], indent);
    else if (MATH.test(text)) {
      openCode("math", null, { fence: text[0] === "$" ? "$$" : "\\]" });
      leaf?.line?.(text);
      if (leaf) leaf.tail = "";
    }
    else if (matched && leaf?.type === "paragraph" && underline(text)) return true;
    else if (RULE.test(text)) parent().append(element("hr", {}));
    else return false;
    return true;
  }

  /** @param {Line} line @param {string} text @param {number} indent */
  function openContainer(line, text, indent) {
    if (text[0] === ">") {
      push({ type: "quote", home: element("blockquote", {}) });
      takeQuote(line, indent);
      return true;
    }
    const found = MARKER.exec(text);
    if (!found) return false;
    const [mark, number] = found;
    const empty = text.trimEnd() === mark;
    const interrupts = leaf?.type === "paragraph" && depth === stack.length;
    if (interrupts && (empty || (number && Number(number) !== 1))) return false;
    line.skip(indent);
    line.take(mark.length);
    const gap = line.indent();
    const inset = empty || gap > 4 ? 1 : gap;
    line.skip(inset);
    const marker = mark[mark.length - 1];
    const holder = stack[depth - 1];
    if (holder.type !== "list" || holder.marker !== marker) openList(marker, number);
    else if (holder.home.childElementCount >= ITEMS_MOST) continueList(holder, number);
    push({ type: "item", home: element("li", {}), offset: indent + mark.length + inset });
    return true;
  }

  /** @param {string} marker @param {string} [number] */
  function openList(marker, number) {
    const home = element(number ? "ol" : "ul", {});
    if (number && Number(number) !== 1) home.setAttribute("start", String(Number(number)));
    push({ type: "list", home, marker });
  }

  /** @param {Container} list @param {string} [number] */
  function continueList({ home, marker = "", blank }, number) {
    const next = /** @type {HTMLOListElement} */ (home).start + home.childElementCount;
    depth--;
    openList(marker, number && String(next));
    if (blank || "loose" in home.dataset) top().home.dataset.loose = "";
  }

  /** Only a quote's own begin tells its blank lines from those of what holds it. */
  function markBlank() {
    for (let at = stack.length - 1; at && stack[at].type !== "quote"; at--) stack[at].blank = true;
  }

  /** @param {string} text @param {boolean} whole no more of the line follows */
  function openLine(text, whole) {
    const line = createLine(text);
    matchContainers(line);
    const blank = whole && line.isBlank();
    if (!continueLeaf(line, whole)) {
      if (blank) closeUnmatched();
      else if (!openBlocks(line, whole)) openText(line, whole);
    }
    if (!blank) for (const each of stack) each.blank = false;
    else if (leaf?.type !== "fence") markBlank();
  }

  /** @param {Line} line @param {boolean} whole */
  function openText(line, whole) {
    const text = line.rest().trimStart();
    if (leaf?.type === "paragraph") leaf.add(`\n${text}`);
    else if (leaf?.type === "table" && whole && depth === stack.length) leaf.table?.row(text);
    else if (text) openParagraph(text);
  }

  function endLine() {
    if (leaf?.type === "heading") closeLeaf();
    else if (leaf?.type === "math" && leaf.tail?.trimEnd().endsWith(leaf.fence ?? "")) closeLeaf();
    head = "";
  }

  /** @param {string} text of a line */
  function isDecided(text) {
    if (leaf?.type === "table") return false;
    const solid = text.search(SOLID);
    // A fence's line is a fence only if no backtick follows.
    return solid >= 0 && !/```|~~~/.test(text.slice(0, solid));
  }

  /** @param {string} part of a line @param {boolean} ends the line ends with it */
  function writePart(part, ends) {
    if (head === null) leaf?.add(part);
    else {
      head += part;
      const text = head;
      if (text.length > HEAD_MOST) {
        head = null;
        openLine(text.slice(0, HEAD_MOST), false);
        leaf?.add(text.slice(HEAD_MOST));
      } else if (ends || isDecided(text)) {
        head = null;
        openLine(text, ends);
      }
    }
    if (ends) endLine();
  }

  return {
    /** @param {string} text with LF as its only line ends */
    write(text) {
      for (let at = 0; at < text.length; ) {
        const end = text.indexOf("\n", at);
        writePart(end < 0 ? text.slice(at) : text.slice(at, end), end >= 0);
        if (end < 0) return;
        at = end + 1;
      }
    },
    draw() {
      if (leaf?.type === "table") leaf.table?.draft(head ?? "");
      leaf?.draw();
    },
    /** Nothing follows. */
    close() {
      if (head !== "") writePart("", true);
      closeLeaf();
    },
  };
}
