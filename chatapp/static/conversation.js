// @ts-check
/** One conversation: loads it, asks, follows the answer that runs, stops it. */

import { followAnswer, isRunning, outcomeOf } from "./net/answer_stream.js";
import { newKey, persist, request } from "./net/api.js";
import { button } from "./dom.js";
import { createAnswer, createQuestion } from "./ui/messages.js";

/** A connection that is back sooner than this, in ms, is not worth a word. */
const UNNOTICED_MS = 800;

const isMissing = error => error.code === "not_found";

/** @type {import("./types").CreateConversation} */
export function createConversation(id, chat, { thread, composer, settings, onId, onLoad }) {
	const { texts, status } = chat;
	const { urls } = chat.config;
	const closed = new AbortController();
	const { signal } = closed;
	chat.signal.addEventListener("abort", () => close(), { signal });
	/** From the first message to the last. @type {any[]} */
	let views = [];
	/** The answer that is followed. @type {{view: any, leave: AbortController} | null} */
	let running = null;
	let asking = false;
	let opening = false;
	let loads = 0;
	/** What the stop button does at the moment. */
	let stop = () => {};
	/** A question of which nobody knows whether it arrived keeps its key. */
	let unsure = { said: "", key: "" };

	const change = fields => request(`${urls.conversations}/${id}`, signal, "PATCH", fields);

	const actions = {
		edit: (view, text) => void send(text, { edit: view.id, at: views.indexOf(view) }),
		regenerate(view) {
			const at = views.indexOf(view);
			if (composer.isIdle()) void send(views[at - 1].content(), { regenerate: view.id, at });
		},
		/** Shows the branch with that message. */
		choose: leaf =>
			change({ leaf })
				.then(() => load(true))
				.catch(error => signal.aborted || status.warn(status.sentence(error))),
	};

	function add(role, text) {
		const view = role === "user" ? createQuestion(chat, actions, text) : createAnswer(chat, actions);
		views.push(view);
		thread.add(view.root);
		return view;
	}

	/** @returns what is worth saying about how it ended */
	function finish(view, /** @type {any} */ { status: ending, finishReason, error }) {
		const said = ending === "done" ? finishReason : ending;
		const note = error ? status.sentence(error) : texts.endings[said];
		const offers = view === views.at(-1) && (ending === "gone" || error?.retryable);
		const again = button(texts.askAgain, () => actions.regenerate(view));
		view.finish(ending, note, offers && again);
		return note;
	}

	function idle() {
		running?.leave.abort();
		running = null;
		stop = () => {};
		status.show("");
		composer.setMode("idle");
	}

	function follow(view) {
		const url = urls.answers + view.id;
		const leave = new AbortController();
		let trouble = 0;
		running?.leave.abort();
		running = { view, leave };
		composer.setMode("busy");
		leave.signal.onabort = () => clearTimeout(trouble);

		function onEnd(outcome) {
			idle();
			status.announce(finish(view, outcome) ?? texts.finished);
		}
		const follower = {
			onStart: view.rewind,
			onText: view.append,
			onReasoning: view.reason,
			onTool: view.tool,
			onSnapshot: ({ text, reasoning }) => view.replace(text, reasoning),
			onConnection(connected) {
				if (!connected) trouble ||= setTimeout(status.warn, UNNOTICED_MS, texts.lost);
				else if (trouble) {
					clearTimeout(trouble);
					trouble = 0;
					status.show("");
				}
			},
			onBuffered: () => status.show(texts.buffered),
			onEnd,
		};
		void followAnswer({ answer: url, events: `${url}/events` }, follower, leave.signal);
		stop = () => {
			composer.setMode("stopping");
			persist(() => request(`${url}/stop`, leave.signal, "POST"), leave.signal).catch(error => {
				if (leave.signal.aborted) return;
				// A new server has taken over, and only the old one can end it: we stop listening.
				if (isMissing(error)) return onEnd({ status: "stopped" });
				composer.setMode("busy");
				status.warn(status.sentence(error));
			});
		};
	}

	/** What the stop button does until the server has replied. */
	function beginAttempt() {
		const givenUp = new AbortController();
		const attempt = { signal: givenUp.signal, stopped: false, onTrouble };
		let troubled = false;
		// An undisturbed request is about to tell the answer's id, with which it can be stopped.
		const stopOrWait = () => attempt.stopped && troubled && givenUp.abort();
		function onTrouble() {
			troubled = true;
			status.warn(texts.lost);
			stopOrWait();
		}
		signal.addEventListener("abort", () => givenUp.abort());
		status.show("");
		composer.setMode("busy");
		stop = () => {
			attempt.stopped = true;
			composer.setMode("stopping");
			stopOrWait();
		};
		return attempt;
	}

	/** Asks `text` at the end, or in the place of the message that stands `at`. */
	async function send(text, { edit = "", regenerate = "", at = views.length } = {}) {
		const replaced = views.splice(at);
		for (const { root } of replaced) root.hidden = true;
		if (!regenerate) add("user", text);
		const view = add("assistant");
		thread.stay();
		asking = true;
		const attempt = beginAttempt();
		try {
			const { model, ...others } = settings();
			if (!id && Object.keys(others).length) {
				id = (await request(urls.conversations, attempt.signal, "POST", { settings: settings() })).id;
				onId(id);
			}
			const question = { message: text, conversation_id: id ?? undefined, edit: edit || undefined };
			const { answer } = await askOnce({ ...(regenerate ? { regenerate } : question), model }, attempt);
			for (const { root } of replaced) root.remove();
			asking = false;
			view.id = answer.id;
			if (id !== answer.conversation_id) onId((id = answer.conversation_id));
			status.show("");
			follow(view);
			if (attempt.stopped) stop();
			void load(true);
		} catch (error) {
			asking = false;
			if (signal.aborted) return;
			for (const { root } of views.splice(at, Infinity, ...replaced)) root.remove();
			for (const { root } of replaced) root.hidden = false;
			idle();
			if ((id || regenerate) && isMissing(error)) {
				id = null;
				views = [];
				thread.addNote(texts.newConversation);
				return void send(text);
			}
			thread.recount();
			if (edit) replaced[0].edit(text);
			else if (!regenerate) composer.restore(text);
			if (!attempt.signal.aborted) status.warn(status.sentence(error));
		}
	}

	/** Goes on asking with the same key until the server has said yes or no, or the reader gives up. */
	function askOnce(body, attempt) {
		const said = JSON.stringify(body);
		const key = unsure.said === said ? unsure.key : newKey();
		unsure = { said, key };
		const headers = { "Idempotency-Key": key };
		const ask = () => request(urls.chat, attempt.signal, "POST", body, headers);
		return persist(ask, attempt.signal, attempt.onTrouble).finally(() => {
			if (!attempt.signal.aborted) unsure = { said: "", key: "" };
		});
	}

	/** Brings the page up to what the server has, and leaves alone what is the same. */
	function draw(all) {
		const messages = all.filter(({ role }) => role === "user" || role === "assistant");
		const differs = (view, message) =>
			view.role !== message?.role || (view.id ?? message.id) !== message.id;
		const fork = views.findIndex((view, at) => differs(view, messages[at]));
		const left = fork < 0 ? [] : views.splice(fork);
		const hadFocus = left.findIndex(({ root }) => root.matches(":focus-within"));
		for (const { root } of left) root.remove();
		if (running && !views.includes(running.view)) idle();
		messages.forEach((message, at) => {
			const view = views[at] ?? add(message.role, message.content);
			view.update(message);
			if (message.role === "user" || view === running?.view) return;
			if (isRunning(message)) return follow(view);
			if (!view.root.ariaBusy && view.content() === message.content) return;
			view.replace(message.content, message.reasoning);
			finish(view, outcomeOf(message));
		});
		thread.recount();
		// The button that led here is gone; the one beside it leads back.
		const heir = hadFocus < 0 ? null : views[fork + hadFocus]?.root;
		setTimeout(() => heir?.querySelector('[data-chat="branch"] :enabled')?.focus());
	}

	/** @param {boolean} [quietly] what is shown is good enough until it has come */
	async function load(quietly) {
		if (!id) return;
		const turn = ++loads;
		opening ||= !quietly;
		if (!quietly) {
			composer.setMode("loading");
			status.show(texts.loading);
		}
		try {
			const attempt = () => request(`${urls.conversations}/${id}`, signal);
			const onTrouble = () => status.warn(texts.lost);
			const got = await (quietly ? attempt() : persist(attempt, signal, onTrouble));
			if (turn !== loads || asking) return;
			if (opening) idle();
			opening = false;
			onLoad(got);
			draw(got.messages);
		} catch (error) {
			if (signal.aborted || quietly) return;
			status.show("");
			const tryAgain = button(texts.tryAgain, () => {
				note.remove();
				void load();
			});
			const note = isMissing(error)
				? thread.addNote(texts.noConversation, button(texts.newChat, () => onId(null)))
				: thread.addNote(status.sentence(error), tryAgain);
		}
	}

	/** Leaves the page to another conversation; a running answer goes on. */
	function close() {
		closed.abort();
		idle();
	}

	const newest = role => views.findLast(view => view.role === role);
	return {
		load,
		send,
		change,
		close,
		stop: () => stop(),
		newestAnswer: () => newest("assistant")?.content(),
		editNewest: () => newest("user")?.edit(),
	};
}
