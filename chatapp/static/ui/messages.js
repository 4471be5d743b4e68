// @ts-check
/** Draws messages; knows nothing about where they come from. */

/** @import { Actions, AnswerView, Chat, CreateAnswer, CreateQuestion } from "../types" */
/** @import { Message, MessageText, Refs, Tool } from "../types" */

import { button, clone, copy, element, listen, refsIn } from "../dom.js";
import { createMessageText } from "./message_text.js";

/** A question of more characters or lines is folded. */
const LONG_CHARS = 2000;
const LONG_LINES = 16;
const ARGUMENTS_CHARS = 80;
const COPIED_MS = 1500;

/** @type {CreateQuestion} */
export function createQuestion(chat, actions, text) {
	const root = clone(chat.refs.questionTemplate);
	const refs = refsIn(root);
	const view = createView(root, refs, "user", () => text);
	const edit = (written = text) =>
		openEditor(root, chat.refs.editorTemplate, written, said => actions.edit(view, said));
	refs.text.textContent = text;
	if (text.length > LONG_CHARS || text.split("\n", LONG_LINES + 1).length > LONG_LINES) {
		fold(refs.text, chat.texts.showAll);
	}
	listen(root, { ...commandsOf(chat, view, actions), edit: () => edit() });
	return Object.assign(view, { edit });
}

/** @type {CreateAnswer} */
export function createAnswer(chat, actions) {
	const { texts, signal } = chat;
	const root = clone(chat.refs.answerTemplate);
	const refs = refsIn(root);
	const answer = createMessageText(refs.text, texts, signal);
	const thoughts = createMessageText(refs.thoughts, texts, signal);
	const view = createView(root, refs, "assistant", answer.content);
	listen(root, commandsOf(chat, view, actions));
	/** @param {string} state */
	const setState = state => {
		root.dataset.state = state;
		if (state !== "thinking") refs.summary.textContent = texts.reasoning;
	};
	/** @type {AnswerView["finish"]} */
	const finish = async (status, note, action) => {
		const isComplete = status === "done";
		await Promise.all([answer.end(isComplete), thoughts.end(isComplete)]);
		setState(status);
		root.ariaBusy = null;
		refs.note.replaceChildren(note ?? "", ...(action ? [action] : []));
	};
	const telling = createTelling(refs, answer, thoughts, setState);
	return Object.assign(view, { ...telling, tool: createCalls(refs.calls), finish });
}

/**
 * An answer's view while it is written.
 * @param {Refs} refs
 * @param {MessageText} answer
 * @param {MessageText} thoughts
 * @param {(state: string) => void} setState
 */
const createTelling = (refs, answer, thoughts, setState) => ({
	/** @param {string} text */
	append(text) {
		if (refs.answer.dataset.state !== "writing") setState("writing");
		answer.append(text);
	},
	/** @param {string} text */
	reason(text) {
		if (!answer.content()) setState("thinking");
		refs.reasoning.hidden = false;
		thoughts.append(text);
	},
	rewind() {
		answer.rewind();
		thoughts.rewind();
	},
	/** @type {AnswerView["replace"]} */
	replace(text, reasoning) {
		if (text) setState("writing");
		answer.replace(text);
		thoughts.replace(reasoning ?? "");
		refs.reasoning.hidden = !thoughts.content();
	},
});

/**
 * What both kinds have, including the switch between branches.
 * @template {"user" | "assistant"} Role
 * @param {HTMLElement} root
 * @param {Refs} refs
 * @param {Role} role
 * @param {() => string} content
 */
function createView(root, refs, role, content) {
	const view = {
		role,
		root,
		content,
		/** @type {string | null} */
		id: null,
		/** @type {string[]} */
		siblings: [],
		/** @param {Message} message */
		update(message) {
			const { id, siblings = [], model } = message;
			const at = siblings.indexOf(id);
			Object.assign(view, { id, siblings });
			refs.branch.hidden = siblings.length < 2;
			refs.place.textContent = `${at + 1}/${siblings.length}`;
			refs.before.disabled = !at;
			refs.after.disabled = at === siblings.length - 1;
			if (refs.model) refs.model.textContent = model ?? "";
		},
	};
	return view;
}

/**
 * What the buttons of both kinds do.
 * @param {Chat} chat
 * @param {ReturnType<typeof createView<"user" | "assistant">>} view
 * @param {Actions} actions
 */
function commandsOf({ texts }, view, actions) {
	/** @param {number} by */
	const step = by => actions.choose(view.siblings[view.siblings.indexOf(view.id ?? "") + by]);
	return {
		before: () => step(-1),
		after: () => step(1),
		regenerate: () => actions.regenerate(view),
		/** @param {HTMLElement} pressed */
		async copy(pressed) {
			await copy(view.content());
			pressed.dataset.done = "";
			pressed.title = texts.copied;
			setTimeout(() => delete pressed.dataset.done, COPIED_MS);
		},
	};
}

/**
 * Shows only the beginning, until the reader wants all.
 * @type {(text: HTMLElement, label: string) => void}
 */
function fold(text, label) {
	text.dataset.folded = "";
	const unfold = button(label, () => {
		unfold.remove();
		delete text.dataset.folded;
	});
	text.after(unfold);
}

/**
 * Shows an editor in place of a question.
 * @param {HTMLElement} root the question
 * @param {HTMLTemplateElement} template
 * @param {string} written
 * @param {(text: string) => void} onSend
 */
function openEditor(root, template, written, onSend) {
	const form = clone(template);
	const { editBox } = refsIn(form);
	const close = () => {
		form.remove();
		delete root.dataset.editing;
	};
	const send = () => {
		if (!editBox.value.trim()) return;
		close();
		onSend(editBox.value);
	};
	listen(form, { cancel: close, send });
	form.onkeydown = event => {
		if (event.key === "Escape") close();
		else if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
		else send();
		// These keys also are shortcuts of the page.
		event.stopPropagation();
	};
	root.dataset.editing = "";
	root.append(form);
	editBox.value = written;
	editBox.focus();
}

/** The calls of tools, a line each. @param {HTMLElement} list */
function createCalls(list) {
	/** @type {Map<string, HTMLElement>} */
	const rows = new Map();
	/** @param {Tool} tool */
	return ({ id, name, ...rest }) => {
		const row = rows.get(id) ?? element("li", {}, name);
		const said = rest.arguments;
		if (said) {
			const text = typeof said === "string" ? said : JSON.stringify(said);
			row.append(element("code", {}, text.slice(0, ARGUMENTS_CHARS)));
		}
		rows.set(id, row);
		row.dataset.state = rest.error ? "failed" : "result" in rest ? "done" : "running";
		list.append(row);
	};
}
