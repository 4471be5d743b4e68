// @ts-check
/** Messages on the page: how they are drawn, and nothing about where they come from. */

import { button, clone, copy, element, hooks, listen } from "../dom.js";
import { createMarkdown } from "../markdown/markdown.js";

/** A question of more characters or lines is folded. */
const LONG_CHARS = 2000;
const LONG_LINES = 16;
const ARGUMENTS_CHARS = 80;
const COPIED_MS = 1500;

/** What both kinds have: their buttons, and the branches beside them. */
function createMessage({ ui, texts }, role, actions) {
	const root = clone(role === "user" ? ui.questionTemplate : ui.answerTemplate);
	const parts = hooks(root);
	let siblings = [];
	const view = {
		role,
		root,
		/** @type {string | null} */
		id: null,
		/** The whole text. */
		content: () => "",
		/** Takes over what the server knows. */
		update(message) {
			view.id = message.id;
			siblings = message.siblings ?? [];
			const at = siblings.indexOf(message.id);
			parts.branch.hidden = siblings.length < 2;
			parts.place.textContent = `${at + 1}/${siblings.length}`;
			parts.before.disabled = !at;
			parts.after.disabled = at === siblings.length - 1;
			if (parts.model) parts.model.textContent = message.model ?? "";
		},
	};
	const step = by => actions.choose(siblings[siblings.indexOf(view.id ?? "") + by]);
	listen(root, {
		before: () => step(-1),
		after: () => step(1),
		regenerate: () => actions.regenerate(view),
		edit: () => /** @type {any} */ (view).edit(),
		async copy(pressed) {
			await copy(view.content());
			pressed.dataset.done = "";
			pressed.title = texts.copied;
			setTimeout(() => delete pressed.dataset.done, COPIED_MS);
		},
	});
	return { view, parts };
}

/** @type {import("../types").CreateQuestion} */
export function createQuestion(chat, actions, text) {
	const { view, parts } = createMessage(chat, "user", actions);
	const { root } = view;
	view.content = () => text;
	parts.text.textContent = text;
	if (text.length > LONG_CHARS || text.split("\n", LONG_LINES + 1).length > LONG_LINES) {
		parts.text.dataset.folded = "";
		const unfold = button(chat.texts.showAll, () => {
			unfold.remove();
			delete parts.text.dataset.folded;
		});
		parts.text.after(unfold);
	}

	function edit(written = text) {
		const form = clone(chat.ui.editorTemplate);
		const { editBox } = hooks(form);
		const close = () => {
			form.remove();
			delete root.dataset.editing;
		};
		const send = () => {
			if (!editBox.value.trim()) return;
			close();
			actions.edit(view, editBox.value);
		};
		listen(form, { cancel: close, send });
		form.onkeydown = event => {
			if (event.key === "Escape") close();
			else if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
			else send();
			event.stopPropagation();
		};
		root.dataset.editing = "";
		root.append(form);
		editBox.value = written;
		editBox.focus();
	}
	return Object.assign(view, { edit });
}

/** Markdown that may be told again from the start, and draws only what is new. */
function createText(container, texts) {
	const markdown = createMarkdown(container, { heading: 3, texts });
	let content = "";
	/** So much of it was told since the last start. */
	let told = 0;

	/** What a failed server did not get to save stays on the page. */
	function replace(text, cut = false) {
		told = text.length;
		if (!cut && content.startsWith(text)) return;
		if (!text.startsWith(content)) {
			content = "";
			markdown.reset();
		}
		markdown.append(text.slice(content.length));
		content = text;
	}

	return {
		content: () => content,
		replace,
		rewind: () => (told = 0),
		append(text) {
			if (told === content.length) {
				content += text;
				told += text.length;
				markdown.append(text);
			} else if (content.startsWith(text, told)) told += text.length;
			else replace(content.slice(0, told) + text);
		},
		async end(complete) {
			if (complete && told < content.length) replace(content.slice(0, told), true);
			await new Promise(resolve => markdown.end(() => resolve(0)));
		},
	};
}

/** @type {import("../types").CreateAnswer} */
export function createAnswer(chat, actions) {
	const { view, parts } = createMessage(chat, "assistant", actions);
	const { texts } = chat;
	const { root } = view;
	const answer = createText(parts.text, texts);
	const thinking = createText(parts.thoughts, texts);
	/** @type {Map<string, HTMLElement>} */
	const rows = new Map();
	view.content = answer.content;

	function setState(state) {
		root.dataset.state = state;
		if (state !== "thinking") parts.summary.textContent = texts.reasoning;
	}

	return Object.assign(view, {
		append(text) {
			if (root.dataset.state !== "writing") setState("writing");
			answer.append(text);
		},
		reason(text) {
			if (!answer.content()) setState("thinking");
			parts.reasoning.hidden = false;
			thinking.append(text);
		},
		/** All that follows is told from the start. */
		rewind() {
			answer.rewind();
			thinking.rewind();
		},
		tool({ id, name, ...rest }) {
			const row = rows.get(id) ?? element("li", {}, name);
			const { arguments: said } = rest;
			if (said) {
				const text = typeof said === "string" ? said : JSON.stringify(said);
				row.append(element("code", {}, text.slice(0, ARGUMENTS_CHARS)));
			}
			rows.set(id, row);
			row.dataset.state = rest.error ? "failed" : "result" in rest ? "done" : "running";
			parts.calls.append(row);
		},
		replace(text, reasoning) {
			if (text) setState("writing");
			answer.replace(text);
			thinking.replace(reasoning ?? "");
			parts.reasoning.hidden = !thinking.content();
		},
		async finish(status, note, action) {
			const complete = status === "done";
			await Promise.all([answer.end(complete), thinking.end(complete)]);
			setState(status);
			root.ariaBusy = null;
			parts.note.replaceChildren(note ?? "", ...(action ? [action] : []));
		},
	});
}
