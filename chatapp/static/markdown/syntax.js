// @ts-check
/** Inline syntax (CommonMark 0.31 §6): patterns, escapes, addresses. */

const { raw } = String;
/** @type {Record<string, string>} */
const NAMED = {
	amp: "&",
	lt: "<",
	gt: ">",
	quot: '"',
	apos: "'",
	nbsp: "\xa0",
	copy: "©",
	hellip: "…",
	mdash: "—",
	ndash: "–",
};
const SIGN = raw`[!-\/:-@[-\x60{-~]`;
const ENTITY = raw`&(?:#(\d{1,7})|#[xX]([\da-fA-F]{1,6})|(${Object.keys(NAMED).join("|")}));`;
const CODED = new RegExp(raw`\\(${SIGN})|${ENTITY}`, "g");
/**
 * Where words end and nothing before can change because of what follows.
 */
const EDGES = raw`\s\u3000-\u303f\uff00-\uff0f\uff1a-\uff20`;
export const EDGE = new RegExp(`[${EDGES}]`);
/** `$x$`: the characters next to the dollars distinguish it from prices. */
const DOLLARS = raw`(?<!\w)\$[^\s$](?:[^$\n]*[^\s$\\])?\$(?![\w$])`;
const MAIL = raw`[\w.+\-]+@[\w\-]+(?:\.[\w\-]+)+`;
const NO_URL = raw`\s<>[\]\x60\\"|\u3000-\u30ff\uff00-\uffef\p{sc=Han}`;
/** The next token of a text; the group names are its kinds. */
export const TOKEN = new RegExp(
	[
		raw`(?<words>(?:[^${EDGES}\\\x60*_~[\]!<&$h]+|h(?!ttps?:\/\/))+|[ \t]+(?![ \t\n]))`,
		raw`(?<line>(?: *|\\)\n[ \t]*)`,
		raw`(?<math>\\\([^]+?\\\)|\\\[[^]+?\\\]|\$\$[^]+?\$\$|${DOLLARS})`,
		raw`(?<coded>\\${SIGN}|${ENTITY})`,
		raw`(?<ticks>\x60+)(?!\x60)(?:(?<code>[^]*?)(?<!\x60)\k<ticks>(?!\x60))?`,
		raw`(?<run>(?<mark>[*_~])\k<mark>*)`,
		raw`<(?<auto>(?:https?:|mailto:)[^<>${EDGES}]*|${MAIL})>`,
		raw`(?<![a-z\d])(?<url>https?:\/\/[^${NO_URL}]+)`,
		raw`(?<open>!?\[)|(?<close>\])|[^]`,
	].join("|"),
	"iuy",
);
const PLAIN = raw`\\\S|[^\x00-\x20()\\]`;
const TARGET = raw`(?:${PLAIN}|\((?:${PLAIN}|\((?:${PLAIN})*\))*\))*`;
const TITLE = raw`"((?:[^"\\]|\\[^])*)"|'((?:[^'\\]|\\[^])*)'|\(((?:[^()\\]|\\[^])*)\)`;
/** `(destination "title")`, after a `]`. */
export const DESTINATION = new RegExp(
	raw`\([ \t\n]*(?:<((?:[^<>\n\\]|\\.)*)>|(?!<)(${TARGET}))(?:[ \t\n]+(?:${TITLE}))?[ \t\n]*\)`,
	"y",
);

/**
 * Resolves backslash escapes and character references (CommonMark §2.4, §2.5).
 * @param {string} text
 */
export function decode(text) {
	return text.replace(CODED, (_, escaped, decimal, hex, name) => {
		if (escaped || name) return escaped || NAMED[name];
		const code = decimal ? Number(decimal) : parseInt(hex, 16);
		const isValid = code && code < 0x110000 && (code < 0xd800 || code > 0xdfff);
		return isValid ? String.fromCodePoint(code) : "\ufffd";
	});
}

/**
 * The beginning of a text, without an unpaired surrogate at its end.
 * @type {(text: string, most: number) => string}
 */
export const cut = (text, most) => text.slice(0, most).replace(/[\ud800-\udbff]$/, "");

/** Whether a link may lead there. @type {(url: string, isImage?: boolean) => boolean} */
export function isAllowed(url, isImage) {
	const scheme = isImage ? /^https?:\/\/\S/i : /^(?:https?:\/\/|mailto:)\S/i;
	return scheme.test(url) && !/[\0-\x1f\x7f]/.test(url);
}

/** An address in a text, without punctuation that belongs to the sentence. @param {string} found */
export function trimmedUrl(found) {
	let url = found;
	for (let last = ""; last !== url; ) {
		last = url;
		url = url.replace(/(?:&[a-z\d]+;|[?!.,:;*_~'’”])$/i, "");
		const isUnopened = url.split(")").length > url.split("(").length;
		if (url.endsWith(")") && isUnopened) url = url.slice(0, -1);
	}
	return url;
}
