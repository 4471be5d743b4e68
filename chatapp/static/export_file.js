// @ts-check
/** A conversation as a file. */

/** @import { Conversation, Texts } from "./types" */

import { element } from "./dom.js";

/** So long the browser has to begin the download. */
const KEPT_MS = 10_000;

/** @type {(conversation: Conversation, format: string, texts: Texts) => void} */
export function exportFile(conversation, format, texts) {
	const title = conversation.title || texts.newChat;
	const isMarkdown = format === "md";
	const text = isMarkdown ? markdownOf(conversation, title, texts) : JSON.stringify(conversation, null, 2);
	const href = URL.createObjectURL(new Blob([text]));
	const name = title.replace(/[^\p{L}\p{N}]+/gu, "-");
	element("a", { href, download: `${name}.${format}` }).click();
	setTimeout(() => URL.revokeObjectURL(href), KEPT_MS);
}

/** @type {(conversation: Conversation, title: string, texts: Texts) => string} */
function markdownOf({ messages }, title, texts) {
	const turns = messages.map(({ role, content }) => {
		const heading = role === "user" ? texts.you : texts.assistant;
		return `## ${heading}\n\n${content}\n`;
	});
	return [`# ${title}\n`, ...turns].join("\n");
}
