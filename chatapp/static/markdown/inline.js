// @ts-check
/**
 * The text inside of a block: emphasis, links, code, math (CommonMark 0.31 §6, GFM strikethrough).
 * HTML stays text. Links lead to the web or to a mailbox; images are links.
 */

import { element } from "../dom.js";

/** What is not closed within so many characters is text. */
const SPAN_MOST = 1000;
/** Most delimiters, and most brackets, that wait for their other half. */
const OPEN_MOST = 40;

const { raw } = String;
const NAMED = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'", nbsp: "\xa0", copy: "©", hellip: "…", mdash: "—", ndash: "–" };
const SIGN = raw`[!-\/:-@[-\x60{-~]`;
const ENTITY = raw`&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|(${Object.keys(NAMED).join("|")}));`;
const CODED = new RegExp(raw`\\(${SIGN})|${ENTITY}`, "g");
/** Where words end, and nothing that has begun before can end differently because of what follows. */
const EDGES = raw`\s\u3000-\u303f\uff00-\uff0f\uff1a-\uff20`;
const EDGE = new RegExp(`[${EDGES}]`);
const TOKEN = new RegExp(
	[
		raw`(?<words>(?:[^${EDGES}\\\x60*_~[\]!<&$h]+|h(?!ttps?:\/\/))+|[ \t]+(?![ \t\n]))`,
		raw`(?<line>(?: *|\\)\n[ \t]*)`,
		raw`(?<math>\\\([^]+?\\\)|\\\[[^]+?\\\]|\$\$[^]+?\$\$|(?<!\w)\$[^\s$](?:[^$\n]*[^\s$\\])?\$(?![\w$]))`,
		raw`(?<coded>\\${SIGN}|${ENTITY})`,
		raw`(?<ticks>\x60+)(?!\x60)(?:(?<code>[^]*?)(?<!\x60)\k<ticks>(?!\x60))?`,
		raw`(?<run>(?<mark>[*_~])\k<mark>*)`,
		raw`<(?<auto>(?:https?:|mailto:)[^<>${EDGES}]*|[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+)>`,
		raw`(?<![a-z\d])(?<url>https?:\/\/[^\s<>[\]\x60\\"|\u3000-\u30ff\uff00-\uffef\p{sc=Han}]+)`,
		raw`(?<open>!?\[)|(?<close>\])|[^]`,
	].join("|"),
	"iuy",
);
const PLAIN = raw`\\\S|[^\x00-\x20()\\]`;
const TARGET = raw`(?:${PLAIN}|\((?:${PLAIN}|\((?:${PLAIN})*\))*\))*`;
const TITLE = raw`"((?:[^"\\]|\\[^])*)"|'((?:[^'\\]|\\[^])*)'|\(((?:[^()\\]|\\[^])*)\)`;
/** `(destination "title")`, after a `]`. */
const DESTINATION = new RegExp(
	raw`\([ \t\n]*(?:<((?:[^<>\n\\]|\\.)*)>|(?!<)(${TARGET}))(?:[ \t\n]+(?:${TITLE}))?[ \t\n]*\)`,
	"y",
);
const PUNCTUATION = /[\p{P}\p{S}]/u;
const CJK = /[\u3000-\u30ff\uff00-\uffef\p{sc=Han}\p{sc=Hangul}]/u;

/** Backslash escapes and character references as what they mean (CommonMark §2.4, §2.5). @param {string} text */
export const decode = text =>
	text.replace(CODED, (_, escaped, decimal, hex, name) => {
		if (escaped || name) return escaped || NAMED[name];
		const code = decimal ? Number(decimal) : parseInt(hex, 16);
		const valid = code && code < 0x110000 && (code < 0xd800 || code > 0xdfff);
		return valid ? String.fromCodePoint(code) : "\ufffd";
	});

/** The beginning of a text, without half a character at its end. @param {string} text */
export const cut = (text, most) => text.slice(0, most).replace(/[\ud800-\udbff]$/, "");

/** Whether a link may lead there. */
const isAllowed = (url, isImage) =>
	(isImage ? /^https?:\/\/\S/i : /^(?:https?:\/\/|mailto:)\S/i).test(url) && !/[\0-\x1f\x7f]/.test(url);

const link = (href, ...children) =>
	element("a", { href, rel: "noopener noreferrer nofollow", target: "_blank" }, ...children);

/** Puts all that stands after a node, up to another, into a new element. */
function wrap(made, from, to = null) {
	while (from.nextSibling !== to) made.append(from.nextSibling);
	from.after(made);
}

/**
 * Whether a run may open, and close, emphasis. CJK knows no spaces: beside it punctuation counts as
 * a letter.
 */
function flanks(char, before, after) {
	const [start, end] = [before, after].map(each => !each.trim());
	const [low, high] = [before, after].map(each => PUNCTUATION.test(each));
	const near = CJK.test(before + after);
	const left = !end && (!high || start || low || near);
	const right = !start && (!low || end || high || near);
	return char === "_"
		? { opens: left && (!right || low), closes: right && (!left || high) }
		: { opens: left, closes: right };
}

function fits(opener, closer) {
	if (!opener.opens || opener.char !== closer.char) return false;
	const odd = opener.length % 3 || closer.length % 3;
	return !((opener.closes || closer.opens) && odd && (opener.length + closer.length) % 3 === 0);
}

/** Pairs delimiters from `bottom` on (CommonMark, "process emphasis"). */
function pair(delimiters, bottom) {
	for (let at = bottom; at < delimiters.length; ) {
		const closer = delimiters[at];
		let from = closer.closes && !closer.tried ? at - 1 : -1;
		while (from >= bottom && !fits(delimiters[from], closer)) from--;
		if (from < bottom) {
			closer.tried = true;
			if (closer.opens) at++;
			else delimiters.splice(at, 1);
			continue;
		}
		const opener = delimiters[from];
		const size = Math.min(opener.node.length, closer.node.length, 2);
		wrap(element(closer.char === "~" ? "del" : size > 1 ? "strong" : "em", {}), opener.node, closer.node);
		delimiters.splice(from + 1, at - from - 1);
		at = from + 1;
		for (const each of [closer, opener]) {
			each.node.deleteData(0, size);
			if (each.node.length) continue;
			each.node.remove();
			delimiters.splice(delimiters.indexOf(each), 1);
			if (each === opener) at--;
		}
	}
}

/**
 * @param {string} source
 * @param {boolean} [open] more follows
 * @param {boolean} [cuts] keeps only what can't be changed by what follows, if there is any of that
 * @returns {{made: DocumentFragment, length: number}} `length`: of the source that was read
 */
function scan(source, open = false, cuts = false) {
	const made = document.createDocumentFragment();
	/** @type {any[]} */
	const delimiters = [];
	/** @type {any[]} */
	const brackets = [];
	/** Grows while words follow words. @type {any} */
	let words = null;
	/** Something may yet turn out to be more than text. */
	let unsure = false;
	/** The last sure place. @type {any} */
	let safe = { at: 0, words, length: 0 };

	/** A text that may yet become something else. */
	function mark(text) {
		const node = new Text(text);
		made.append(node);
		words = null;
		return node;
	}

	function say(text) {
		if (words) words.appendData(text);
		else words = mark(text);
	}

	function put(node) {
		made.append(node);
		words = null;
	}

	function run(text, char, before, after) {
		const { length } = text;
		if (length > 16 || (char === "~" && length !== 2) || delimiters.length >= OPEN_MOST) say(text);
		else delimiters.push({ char, length, ...flanks(char, before, after), node: mark(text) });
	}

	/** @returns how much of the source belongs to it */
	function close(at) {
		const opener = brackets.pop();
		DESTINATION.lastIndex = at;
		const found = opener?.active && DESTINATION.exec(source);
		const url = found && decode(found[1] ?? found[2]);
		if (!found || !isAllowed(url, opener.isImage)) {
			unsure ||= opener?.active && !found && source[at] === "(";
			say("]");
			return 0;
		}
		pair(delimiters, opener.bottom);
		delimiters.length = opener.bottom;
		const anchor = link(url);
		const title = found[3] ?? found[4] ?? found[5];
		if (title) anchor.title = decode(title);
		wrap(anchor, opener.node);
		opener.node.remove();
		words = null;
		if (opener.isImage) {
			anchor.dataset.chat = "image";
			anchor.textContent = anchor.textContent || url;
		} else {
			for (const inner of anchor.querySelectorAll("a")) inner.replaceWith(inner.textContent ?? "");
			for (const each of brackets) each.active &&= each.isImage;
		}
		return found[0].length;
	}

	let at = 0;
	while (at < source.length) {
		if (EDGE.test(source[at])) {
			if (!brackets.length) pair(delimiters, 0);
			if (!unsure && !brackets.length && !delimiters.length) safe = { at, words: made.lastChild, length: words?.length };
		}
		TOKEN.lastIndex = at;
		const found = /** @type {any} */ (TOKEN.exec(source));
		const [text] = found;
		const token = found.groups;
		const from = at;
		at += text.length;
		if (token.words) say(text);
		else if (token.line) {
			if (/^\\|^  /.test(text)) put(element("br", {}));
			say("\n");
		} else if (token.math) put(element("span", { chat: "math", dir: "ltr" }, text));
		else if (token.coded) say(decode(text));
		else if (token.code) {
			const code = token.code.replaceAll("\n", " ");
			put(element("code", {}, /^ .*[^ ].* $/.test(code) ? code.slice(1, -1) : code));
		} else if (token.run) {
			const after = String.fromCodePoint(source.codePointAt(at) ?? 32);
			run(text, token.mark, (source.slice(Math.max(0, from - 2), from).match(/.$/su)?.[0] ?? ""), after);
		} else if (token.auto && isAllowed(token.auto)) put(link(token.auto, token.auto));
		else if (token.auto?.includes("@")) put(link(`mailto:${token.auto}`, token.auto));
		else if (token.url) {
			let url = token.url;
			for (let last = ""; last !== url; ) {
				last = url;
				url = url.replace(/(?:&[a-z\d]+;|[?!.,:;*_~'’”])$/i, "");
				if (url.endsWith(")") && url.split(")").length > url.split("(").length) url = url.slice(0, -1);
			}
			at = from + url.length;
			if (isAllowed(url)) put(link(url, url));
			else say(url);
		} else if (token.open && brackets.length < OPEN_MOST) {
			brackets.push({ node: mark(text), isImage: text[0] === "!", active: true, bottom: delimiters.length });
		} else if (token.close) at += close(at);
		else {
			unsure ||= token.ticks || /^(?:\\[([]|\$\$|\$\S[^$\n]*$)/.test(source.slice(from));
			say(text);
		}
	}
	pair(delimiters, 0);
	if (cuts && safe.at) {
		const { words: last, length } = safe;
		if (length !== undefined && last instanceof Text) last.data = last.data.slice(0, length);
		while (made.lastChild !== last) made.lastChild?.remove();
		return { made, length: safe.at };
	}
	for (const { node, char } of open ? delimiters : []) {
		if (node.length < 2 || char === "_") continue;
		// The other half is on its way, most likely.
		node.deleteData(0, 2);
		wrap(element(char === "~" ? "del" : "strong", {}), node);
	}
	return { made, length: source.length };
}

/** All of a short text. @param {string} text */
export const inline = text => scan(text).made;

/** Puts nodes behind the final ones, and leaves alone what is there already. */
function show({ home, final }, made) {
	let old = final ? final.nextSibling : home.firstChild;
	for (; old && made.firstChild; old = old.nextSibling) {
		const next = made.firstChild;
		if (old instanceof Text && next instanceof Text && next.data.startsWith(old.data)) {
			if (next.length > old.length) old.appendData(next.data.slice(old.length));
		} else if (!old.isEqualNode(next)) break;
		next.remove();
	}
	const last = old ? old.previousSibling : home.lastChild;
	while (home.lastChild !== last) home.lastChild.remove();
	home.append(made);
}

/** Adds to a block's text, and writes what is long past for good. @param {import("../types").Inline} block */
export function addText(block, text) {
	block.rest += text;
	while (block.rest.length > SPAN_MOST) {
		const { made, length } = scan(cut(block.rest, SPAN_MOST), false, true);
		show(block, made);
		block.final = block.home.lastChild;
		block.rest = block.rest.slice(length);
	}
}

/** Draws a block as far as it has come. @param {import("../types").Inline} block */
export function drawText(block, text, open) {
	const drawn = { ...block, rest: "" };
	addText(drawn, text);
	show(drawn, scan(open ? drawn.rest : drawn.rest.trimEnd(), open).made);
}
