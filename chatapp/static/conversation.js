// @ts-check
/** One conversation: loads it, asks, follows and stops the running answer. */

/** @import { Actions, AnswerView, Conversing, CreateConversation } from "./types" */
/** @import { Message, MessageView, View } from "./types" */

import { button } from "./dom.js";
import { isRunning, outcomeOf } from "./net/answer_stream.js";
import { isMissing, persist, request } from "./net/api.js";
import { createAsking, send } from "./conversation/asking.js";
import { addAnswer, addQuestion, finish, follow, idle } from "./conversation/views.js";

/** @type {CreateConversation} */
export function createConversation(id, chat, surroundings) {
	const closed = new AbortController();
	const { signal } = closed;
	/** @type {Conversing} */
	const conversing = {
		...surroundings,
		id,
		chat,
		signal,
		views: [],
		running: null,
		isAsking: false,
		isOpening: false,
		loads: 0,
		stop() {},
		load: isQuiet => load(conversing, isQuiet),
		askOnce: createAsking(chat.config.urls.chat),
		actions: createActions(() => conversing),
	};
	const close = () => {
		closed.abort();
		idle(conversing);
	};
	chat.signal.addEventListener("abort", close, { signal });
	return {
		load: conversing.load,
		send: text => send(conversing, text),
		change: fields => change(conversing, fields),
		close,
		stop: () => conversing.stop(),
		newestAnswer: () => newest(conversing, "assistant")?.content(),
		editNewest: () => newest(conversing, "user")?.edit(),
	};
}

/**
 * @param {() => Conversing} conversing
 * @returns {Actions}
 */
const createActions = conversing => ({
	edit(view, text) {
		void send(conversing(), text, { edit: view.id, at: indexOf(conversing(), view) });
	},
	regenerate(view) {
		const { composer, views } = conversing();
		if (!composer.isIdle()) return;
		const at = indexOf(conversing(), view);
		void send(conversing(), views[at - 1].content(), { regenerate: view.id, at });
	},
	choose: leaf => void choose(conversing(), leaf),
});

/** @type {(conversing: Conversing, view: View) => number} */
const indexOf = ({ views }, view) => views.findIndex(each => each === view);

/** @type {(conversing: Conversing, role: string) => any} */
const newest = ({ views }, role) => views.findLast(view => view.role === role);

/** @param {Conversing} conversing */
const urlOf = ({ chat, id }) => `${chat.config.urls.conversations}/${id}`;

/** @type {(conversing: Conversing, fields: object) => Promise<any>} */
function change(conversing, fields) {
	return request(urlOf(conversing), conversing.signal, "PATCH", fields);
}

/**
 * Shows the branch with that message.
 * @type {(conversing: Conversing, leaf: string) => Promise<void>}
 */
async function choose(conversing, leaf) {
	const { status } = conversing.chat;
	try {
		await change(conversing, { leaf });
		await conversing.load(true);
	} catch (error) {
		if (!conversing.signal.aborted) status.warn(status.sentence(error));
	}
}

/** @type {(conversing: Conversing, isQuiet?: boolean) => Promise<void>} */
async function load(conversing, isQuiet) {
	const { id, composer, chat, signal } = conversing;
	if (!id) return;
	const turn = ++conversing.loads;
	conversing.isOpening ||= !isQuiet;
	if (!isQuiet) {
		composer.setMode("loading");
		chat.status.show(chat.texts.loading);
	}
	try {
		const attempt = () => request(urlOf(conversing), signal);
		const onTrouble = () => chat.status.warn(chat.texts.lost);
		const got = await (isQuiet ? attempt() : persist(attempt, signal, onTrouble));
		// A later load came first, or this one lacks a question asked since.
		if (turn !== conversing.loads || conversing.isAsking) return;
		if (conversing.isOpening) idle(conversing);
		conversing.isOpening = false;
		conversing.onLoad(got);
		draw(conversing, got.messages);
	} catch (error) {
		if (!signal.aborted && !isQuiet) explain(conversing, error);
	}
}

/**
 * Says why there is no conversation, and what to do.
 * @type {(conversing: Conversing, error: unknown) => void}
 */
function explain({ chat, thread, load, onId }, error) {
	const { status, texts } = chat;
	status.show("");
	if (isMissing(error)) {
		thread.addNote(texts.noConversation, button(texts.newChat, () => onId(null)));
		return;
	}
	const tryAgain = button(texts.tryAgain, () => {
		note.remove();
		void load();
	});
	const note = thread.addNote(status.sentence(error), tryAgain);
}

/**
 * Updates the page to the server's state; leaves unchanged messages alone.
 * @param {Conversing} conversing
 * @param {Message[]} all
 */
function draw(conversing, all) {
	const { views, thread } = conversing;
	const messages = all.filter(({ role }) => role === "user" || role === "assistant");
	const fork = views.findIndex((view, at) => isAnother(view, messages[at]));
	const left = fork < 0 ? [] : views.splice(fork);
	const hadFocus = left.findIndex(({ root }) => root.matches(":focus-within"));
	for (const { root } of left) root.remove();
	const { running } = conversing;
	if (running && !views.includes(running.view)) idle(conversing);
	messages.forEach((message, at) => show(conversing, views[at], message));
	thread.recount();
	// The button that was pressed is gone; the one next to it leads back.
	const heir = hadFocus < 0 ? null : views[fork + hadFocus]?.root;
	setTimeout(() => {
		/** @type {HTMLElement | null | undefined} */
		const next = heir?.querySelector('[data-chat="branch"] :enabled');
		next?.focus();
	});
}

/** @type {(view: MessageView, message: Message | undefined) => boolean} */
function isAnother(view, message) {
	if (!message) return true;
	return view.role !== message.role || (view.id ?? message.id) !== message.id;
}

/**
 * @param {Conversing} conversing
 * @param {MessageView | undefined} known the message's view, if it has one
 * @param {Message} message
 */
function show(conversing, known, message) {
	if (message.role === "user") {
		const view = known ?? addQuestion(conversing, message.content);
		return view.update(message);
	}
	const view = /** @type {AnswerView} */ (known ?? addAnswer(conversing));
	view.update(message);
	if (view === conversing.running?.view) return;
	if (isRunning(message)) return follow(conversing, view);
	if (!view.root.ariaBusy && view.content() === message.content) return;
	view.replace(message.content, message.reasoning);
	finish(conversing, view, outcomeOf(message));
}
