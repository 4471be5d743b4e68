// @ts-check
/** From a question to the answer that is followed, or back to where the page was. */

/** @import { AskOnce, Attempt, Conversing, MessageView, Place } from "../types" */

import { isMissing, newKey, persist, request } from "../net/api.js";
import { addAnswer, addQuestion, follow, idle } from "./views.js";

/**
 * Asks `text` at the end, or replacing other messages.
 * @param {Conversing} conversing
 * @param {string} text
 * @param {Place} [place]
 * @returns {Promise<void>}
 */
export async function send(conversing, text, place = {}) {
	const { views, thread, signal, chat } = conversing;
	const { at = views.length } = place;
	const replaced = views.splice(at);
	for (const { root } of replaced) root.hidden = true;
	if (!place.regenerate) addQuestion(conversing, text);
	const view = addAnswer(conversing);
	thread.stay();
	conversing.isAsking = true;
	const attempt = beginAttempt(conversing);
	try {
		const { answer } = await ask(conversing, text, place, attempt);
		for (const { root } of replaced) root.remove();
		conversing.isAsking = false;
		view.id = answer.id;
		if (conversing.id !== answer.conversation_id) name(conversing, answer.conversation_id);
		chat.status.show("");
		follow(conversing, view);
		if (attempt.isStopped) conversing.stop();
		void conversing.load(true);
	} catch (error) {
		conversing.isAsking = false;
		if (signal.aborted) return;
		takeBack(conversing, replaced, at);
		const isGone = (conversing.id || place.regenerate) && isMissing(error);
		if (isGone) return sendToNew(conversing, text);
		giveBack(conversing, text, place, replaced);
		if (!attempt.signal.aborted) chat.status.warn(chat.status.sentence(error));
	}
}

/**
 * The first question creates the conversation, with the settings that have been chosen for it.
 * @param {Conversing} conversing
 * @param {string} text
 * @param {Place} place
 * @param {Attempt} attempt
 */
function ask(conversing, text, { edit, regenerate }, attempt) {
	const settings = conversing.settings();
	const { model, ...others } = settings;
	const id = conversing.id ?? undefined;
	const first = !id && Object.keys(others).length ? { settings } : {};
	const question = { message: text, conversation_id: id, edit: edit || undefined, ...first };
	return conversing.askOnce({ ...(regenerate ? { regenerate } : question), model }, attempt);
}

/** The server has made the conversation. @type {(conversing: Conversing, id: string) => void} */
function name(conversing, id) {
	conversing.id = id;
	conversing.onId(id);
}

/**
 * Restores what the question would have replaced.
 * @type {(conversing: Conversing, replaced: MessageView[], at: number) => void}
 */
function takeBack(conversing, replaced, at) {
	for (const { root } of conversing.views.splice(at, Infinity, ...replaced)) root.remove();
	for (const { root } of replaced) root.hidden = false;
	idle(conversing);
}

/**
 * The conversation was deleted elsewhere.
 * @type {(conversing: Conversing, text: string) => Promise<void>}
 */
function sendToNew(conversing, text) {
	conversing.id = null;
	conversing.views.length = 0;
	conversing.thread.addNote(conversing.chat.texts.newConversation);
	return send(conversing, text);
}

/**
 * Puts the text back into the box that it came from.
 * @type {(conversing: Conversing, text: string, place: Place, replaced: any[]) => void}
 */
function giveBack({ thread, composer }, text, { edit, regenerate }, replaced) {
	thread.recount();
	if (edit) replaced[0].edit(text);
	else if (!regenerate) composer.restore(text);
}

/**
 * What the stop button does until the server has replied.
 * @type {(conversing: Conversing) => Attempt}
 */
function beginAttempt(conversing) {
	const { chat, composer, signal } = conversing;
	const givenUp = new AbortController();
	let isTroubled = false;
	// The request is about to return the answer's id, which is needed to stop it.
	const stopOrWait = () => attempt.isStopped && isTroubled && givenUp.abort();
	const attempt = {
		signal: givenUp.signal,
		isStopped: false,
		onTrouble() {
			isTroubled = true;
			chat.status.warn(chat.texts.lost);
			stopOrWait();
		},
	};
	signal.addEventListener("abort", () => givenUp.abort());
	chat.status.show("");
	composer.setMode("busy");
	conversing.stop = () => {
		attempt.isStopped = true;
		composer.setMode("stopping");
		stopOrWait();
	};
	return attempt;
}

/**
 * Repeats the request with the same key until the server replies or the reader gives up.
 * @type {(url: string) => AskOnce}
 */
export function createAsking(url) {
	/** A question of which nobody knows whether it arrived keeps its key. */
	let unsure = { said: "", key: "" };
	return (body, attempt) => {
		const said = JSON.stringify(body);
		const key = unsure.said === said ? unsure.key : newKey();
		unsure = { said, key };
		const headers = { "Idempotency-Key": key };
		const ask = () => request(url, attempt.signal, "POST", body, headers);
		return persist(ask, attempt.signal, attempt.onTrouble).finally(() => {
			if (!attempt.signal.aborted) unsure = { said: "", key: "" };
		});
	};
}
