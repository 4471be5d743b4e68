// @ts-check
/** Reads inline Markdown: emphasis, links, code, math (CommonMark 0.31 §6, GFM strikethrough). */

import { allowed, decode } from "./markdown_links.js";

/**
 * @typedef {{tag: "em" | "strong" | "del" | "a" | "code" | "span" | "br",
 *   attributes?: Record<string, string>}} Kind
 * @typedef {{kind: Kind, text: string}} Leaf
 * @typedef {{closes: number, text: string, opens: Kind[]}} Mark closes elements, then writes
 *   `text`, then opens elements
 * @typedef {{char: string, length: number, left: number, opens: boolean, closes: boolean,
 *   tried: boolean, mark: Mark}} Delimiter `tried`: found nothing before it to close
 * @typedef {{mark: Mark, image: boolean, active: boolean, bottom: number}} Bracket
 * @typedef {{tokens: (string | Leaf | Mark)[], safe: number, kept: number}} Scan `safe`: so many
 *   characters, `kept`: so many tokens are final
 * @typedef {"open" | "cut" | "last"} Mode more follows; more follows elsewhere; nothing follows
 */

/** Most delimiters, and most brackets, that wait for their other half. */
const OPEN_MOST = 40;
const RUN_MOST = 16;

const SPACE = /^$|\s/;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const CJK = /[\u3000-\u30ff\uff00-\uffef\p{sc=Han}\p{sc=Hangul}]/u;
/** Nothing that has begun before can end differently because of what follows. */
const BOUNDARY = /[\s\u3000-\u303f\uff00-\uff0f\uff1a-\uff20]/;
const PLAIN =
  /(?:[^\s\\`*_~[\]!<&$h\u3000-\u303f\uff00-\uff0f\uff1a-\uff20]+|h(?!ttps?:\/\/[^\s/]))+/y;
const BLANKS = /[ \t]*(\n?)[ \t]*/y;
const RUN = /([*_~`])\1*/y;
const AUTOLINK = /<(?:(https?:|mailto:)[^\s<>]*|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)>/iy;
const BARE = /https?:\/\/[^\s<>[\]`\\"|\u3000-\u30ff\uff00-\uffef\p{sc=Han}]+/uy;
const ENTITY = /&(?:#\d{1,7}|#x[\da-f]{1,6}|[a-z][a-z\d]{1,30});/iy;
const ESCAPED = /\\([!-/:-@[-`{-~])/y;
const DOLLARS = /\$[^\s$](?:[^$\n]*[^\s$\\])?\$(?![\w$])/y;

const ESCAPE = "\\\\[!-/:-@[-`{-~]|\\\\(?![!-/:-@[-`{-~])";
let target = "";
for (let depth = 0; depth < 4; depth++) {
  target = `(?:[^\\x00-\\x20()\\\\]|${ESCAPE}${target && `|\\(${target}\\)`})*`;
}
const title = ['"', "'"].map((quote) => `${quote}((?:[^${quote}\\\\]|\\\\[^])*)${quote}`).join("|");
/** `(destination "title")`, after a `]`. */
const DESTINATION = new RegExp(
  `\\([ \\t\\n]*(?:<((?:[^<>\\n\\\\]|\\\\.)*)>|(?!<)(${target}))` +
    `(?:[ \\t\\n]+(?:${title}|\\(((?:[^()\\\\]|\\\\[^])*)\\)))?[ \\t\\n]*\\)`,
  "y",
);

/** @param {RegExp} pattern sticky @param {string} source @param {number} at */
function match(pattern, source, at) {
  pattern.lastIndex = at;
  return pattern.exec(source);
}

/**
 * Pairs delimiters from `bottom` on (CommonMark, "process emphasis").
 * @param {Delimiter[]} stack @param {number} bottom
 */
function pair(stack, bottom) {
  for (let at = bottom; at < stack.length; ) {
    const closer = stack[at];
    let from = closer.closes && !closer.tried ? at - 1 : -1;
    while (from >= bottom && !fits(stack[from], closer)) from--;
    if (from < bottom) {
      closer.tried = true;
      if (closer.opens) at++;
      else stack.splice(at, 1);
      continue;
    }
    const opener = stack[from];
    const size = Math.min(opener.left, closer.left, 2);
    const tag = opener.char === "~" ? "del" : size === 2 ? "strong" : "em";
    opener.mark.opens.unshift({ tag });
    closer.mark.closes++;
    for (const each of [opener, closer]) {
      each.left -= size;
      each.mark.text = each.char.repeat(each.left);
    }
    stack.splice(from + 1, at - from - 1);
    at = from + 1;
    if (!closer.left) stack.splice(at, 1);
    if (!opener.left) stack.splice(--at, 1);
  }
}

/** @param {Delimiter} opener @param {Delimiter} closer */
function fits(opener, closer) {
  if (!opener.opens || opener.char !== closer.char) return false;
  const both = opener.closes || closer.opens;
  const odd = opener.length % 3 !== 0 || closer.length % 3 !== 0;
  return !(both && odd && (opener.length + closer.length) % 3 === 0);
}

/**
 * Whether a run may open, and close, emphasis. CJK knows no spaces: beside it punctuation counts
 * as a letter.
 * @param {string} char @param {string} before @param {string} after one character, or none
 */
function flanks(char, before, after) {
  const [start, end] = [SPACE.test(before), SPACE.test(after)];
  const [low, high] = [PUNCTUATION.test(before), PUNCTUATION.test(after)];
  const near = CJK.test(before) || CJK.test(after);
  const left = !end && (!high || start || low || near);
  const right = !start && (!low || end || high || near);
  if (char !== "_") return { opens: left, closes: right };
  return { opens: left && (!right || low), closes: right && (!left || high) };
}

/**
 * @param {string} source
 * @param {string} before the character before it
 * @param {Mode} mode
 * @param {number} enough stops at the first safe place from here on
 * @returns {Scan}
 */
export function scan(source, before, mode, enough) {
  /** @type {Scan} */
  const done = { tokens: [], safe: 0, kept: 0 };
  const { tokens } = done;
  /** @type {Delimiter[]} */
  const delimiters = [];
  /** @type {Bracket[]} */
  const brackets = [];
  const open = mode === "open";
  /** Something may yet turn out to be more than text. */
  let unsure = false;
  let at = 0;

  /** @param {number} length @param {string} [text] */
  function plain(length, text = source.substr(at, length)) {
    tokens.push(text);
    at += length;
  }

  /** @param {number} length @param {Kind} kind @param {string} text */
  function leaf(length, kind, text) {
    tokens.push({ kind, text });
    at += length;
  }

  /** @param {string} text @param {number} [length] */
  function mark(text, length = text.length) {
    const made = { closes: 0, text, opens: [] };
    tokens.push(made);
    at += length;
    return made;
  }

  function blanks() {
    const found = /** @type {RegExpExecArray} */ (match(BLANKS, source, at));
    if (mode === "last" && BLANKS.lastIndex === source.length) at = source.length;
    else if (!found[0]) plain(1);
    else if (!found[1]) plain(found[0].length);
    else {
      if (found[0].indexOf("\n") > 1) leaf(0, { tag: "br" }, "");
      plain(found[0].length, "\n");
    }
  }

  function backslash() {
    const next = source[at + 1];
    if ((next === "(" || next === "[") && math(`\\${next}`, next === "(" ? "\\)" : "\\]")) return;
    const found = match(ESCAPED, source, at);
    if (found) plain(2, found[1]);
    else if (next === "\n") {
      leaf(1, { tag: "br" }, "");
      blanks();
    } else plain(1);
  }

  /** @param {string} start @param {string} stop */
  function math(start, stop) {
    const end = source.indexOf(stop, at + start.length + 1);
    unsure ||= open && end < 0;
    if (end > 0) leaf(end + stop.length - at, span, source.slice(at, end + stop.length));
    return end > 0;
  }

  function dollar() {
    if (source.startsWith("$$", at)) {
      if (!math("$$", "$$")) plain(2);
      return;
    }
    const found = /\w/.test(source[at - 1] ?? before) ? null : match(DOLLARS, source, at);
    if (found) return leaf(found[0].length, span, found[0]);
    unsure ||= open && source.slice(at + 1).search(/[$\n]/) < 0;
    plain(1);
  }

  function backticks() {
    const [fence] = /** @type {RegExpExecArray} */ (match(RUN, source, at));
    let end = at + fence.length;
    const from = end;
    while ((end = source.indexOf(fence, end)) > 0) {
      const [run] = /** @type {RegExpExecArray} */ (match(RUN, source, end));
      if (run.length === fence.length) break;
      end += run.length;
    }
    if (end < 0) {
      unsure ||= open;
      return plain(fence.length);
    }
    const text = source.slice(from, end).replaceAll("\n", " ");
    const padded = text.length > 2 && text.trim() && text.startsWith(" ") && text.endsWith(" ");
    leaf(end + fence.length - at, { tag: "code" }, padded ? text.slice(1, -1) : text);
  }

  function delimiter() {
    const [run, char] = /** @type {RegExpExecArray} */ (match(RUN, source, at));
    const last = String.fromCodePoint(source.codePointAt(at + run.length) ?? 0).replace("\0", "");
    const sides = flanks(char, previous(at), last);
    const { length } = run;
    if (open && !last) return void (at += length);
    if (length > RUN_MOST || (char === "~" && length !== 2) || delimiters.length >= OPEN_MOST) {
      return plain(length);
    }
    delimiters.push({ char, length, left: length, ...sides, tried: false, mark: mark(run) });
  }

  /** @param {number} place */
  function previous(place) {
    if (!place) return before;
    const low = /[\udc00-\udfff]/.test(source[place - 1]) && place > 1;
    return source.slice(place - (low ? 2 : 1), place);
  }

  /** @param {boolean} image */
  function bracket(image) {
    const text = image ? "![" : "[";
    if (brackets.length >= OPEN_MOST) return plain(text.length);
    brackets.push({ mark: mark(text), image, active: true, bottom: delimiters.length });
  }

  function closeBracket() {
    const opener = brackets.pop();
    const found = opener?.active ? match(DESTINATION, source, at + 1) : null;
    const url = found && decode(found[1] ?? found[2]);
    if (!opener || !found || !allowed(url ?? "", opener.image)) {
      unsure ||= open && opener?.active === true && !found && source[at + 1] === "(";
      return plain(1);
    }
    pair(delimiters, opener.bottom);
    delimiters.length = opener.bottom;
    const name = found[3] ?? found[4] ?? found[5];
    opener.mark.text = "";
    opener.mark.opens.push(link(url ?? "", opener.image, name && decode(name)));
    mark("", found[0].length + 1).closes = 1;
    if (!opener.image) for (const each of brackets) each.active &&= each.image;
  }

  function angle() {
    const found = match(AUTOLINK, source, at);
    const text = found ? found[0].slice(1, -1) : "";
    const url = found && !found[1] ? `mailto:${text}` : text;
    if (found && allowed(url, false)) return leaf(found[0].length, link(url, false), text);
    unsure ||= open && !/[\s<>]/.test(source.slice(at + 1));
    plain(1);
  }

  function bare() {
    let [url] = match(BARE, source, at) ?? [""];
    for (let last = ""; last !== url; ) {
      last = url;
      url = url.replace(/(?:&[a-z\d]+;|[?!.,:;*_~'’”])$/i, "");
      if (url.endsWith(")") && url.split(")").length > url.split("(").length) url = url.slice(0, -1);
    }
    if (/[a-z\d]/i.test(previous(at)) || !allowed(url, false)) return plain(1);
    leaf(url.length, link(url, false), url);
  }

  function entity() {
    const found = match(ENTITY, source, at);
    plain(found ? found[0].length : 1, found ? decode(found[0]) : "&");
  }

  /** @type {Record<string, () => void>} */
  const handlers = {
    "\\": backslash,
    "`": backticks,
    "*": delimiter,
    _: delimiter,
    "~": delimiter,
    "[": () => bracket(false),
    "]": closeBracket,
    "!": () => (source[at + 1] === "[" ? bracket(true) : plain(1)),
    "<": angle,
    "&": entity,
    $: dollar,
    h: bare,
  };

  while (at < source.length) {
    if (BOUNDARY.test(source[at])) {
      if (!brackets.length) pair(delimiters, 0);
      if (!unsure && !brackets.length && !delimiters.length) {
        done.safe = at;
        done.kept = tokens.length;
        if (at && at >= enough) return done;
      }
      blanks();
    } else {
      const found = match(PLAIN, source, at);
      if (found) plain(found[0].length);
      else handlers[source[at]]();
    }
  }
  pair(delimiters, 0);
  if (open) {
    for (const { mark: each, char, left } of delimiters) {
      if (left < 2 || char === "_") continue;
      // The other half is on its way, most likely.
      each.opens.unshift({ tag: char === "~" ? "del" : "strong" });
      each.text = each.text.slice(2);
    }
  } else {
    done.safe = source.length;
    done.kept = tokens.length;
  }
  return done;
}

/** @type {Kind} */
const span = { tag: "span", attributes: { chat: "math", dir: "ltr" } };

/** @param {string} href @param {boolean} image @param {string} [name] @returns {Kind} */
function link(href, image, name) {
  /** @type {Record<string, string>} */
  const attributes = { href, rel: "noopener noreferrer nofollow", target: "_blank" };
  if (image) attributes.chat = "image";
  if (name) attributes.title = name;
  return { tag: "a", attributes };
}

