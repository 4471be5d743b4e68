// @ts-check
/** A conversation's messages on the page. */

/** @import { AnswerView, Conversing, Outcome, QuestionView } from "../types" */

import { button } from "../dom.js";
import { createAnswer, createQuestion } from "../ui/messages.js";

/** At the end. @type {(conversing: Conversing, text: string) => QuestionView} */
export function addQuestion({ chat, actions, views, thread }, text) {
	const view = createQuestion(chat, actions, text);
	views.push(view);
	thread.add(view.root);
	return view;
}

/** At the end, with nothing in it. @type {(conversing: Conversing) => AnswerView} */
export function addAnswer({ chat, actions, views, thread }) {
	const view = createAnswer(chat, actions);
	views.push(view);
	thread.add(view.root);
	return view;
}

/**
 * Shows how an answer has ended.
 * @type {(conversing: Conversing, view: AnswerView, outcome: Outcome) => string | undefined}
 * @returns what is worth saying about it
 */
export function finish({ chat, actions, views }, view, { status: ending, finishReason, error }) {
	const { texts, status } = chat;
	const reason = ending === "done" ? finishReason : ending;
	const note = error ? status.sentence(error) : texts.endings[reason ?? ""];
	const canRetry = view === views.at(-1) && (ending === "gone" || error?.retryable);
	const again = button(texts.askAgain, () => actions.regenerate(view));
	void view.finish(ending, note, canRetry && again);
	return note;
}

/** Nothing runs any more, or what runs is not followed. @param {Conversing} conversing */
export function idle(conversing) {
	conversing.running?.leave.abort();
	conversing.running = null;
	conversing.stop = () => {};
	conversing.chat.status.show("");
	conversing.composer.setMode("idle");
}
