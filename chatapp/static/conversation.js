// @ts-check
/** One conversation: loads it, asks, follows the answer that runs, stops it. */

import { followAnswer, isRunning, outcomeOf } from "./answer_stream.js";
import { ApiError, ask, getConversation, newKey, stopAnswer } from "./api.js";
import { button } from "./dom.js";

/**
 * @typedef {import("./answer_stream.js").Outcome} Outcome
 * @typedef {import("./answer_view.js").AnswerView} AnswerView
 * @typedef {{answer: string, events: string, stop: string}} AnswerUrls
 * @typedef {{id: string, view: AnswerView, question: string}} Shown an answer on the page, and
 *   the question to ask again, or an empty one
 * @typedef {object} Surroundings
 * @property {{chat: string, conversations: string, answers: string}} urls
 * @property {import("./strings.js").Strings} strings
 * @property {import("./thread.js").Thread} thread
 * @property {import("./composer.js").Composer} composer
 * @property {import("./status.js").Status} status
 * @property {() => string | undefined} chosenModel
 * @property {(id: string | null) => void} onId a conversation was made; null: a new one is wanted
 * @property {(title: string | null) => void} onTitle
 */

/** A connection that is back sooner than this, in ms, is not worth a word. */
const UNNOTICED_MS = 800;

/**
 * @param {string | null} id null: the first question makes the conversation
 * @param {Surroundings} surroundings
 */
export function createConversation(id, surroundings) {
  const { urls, strings, thread, composer, status } = surroundings;
  const closed = new AbortController();
  let following = 0;
  /** What the stop button does at the moment. */
  let stop = () => {};
  /** A question of which nobody knows whether it arrived keeps its key. */
  let unsure = { body: "", key: "" };

  /** @param {Shown} shown @param {Outcome} outcome */
  function finish({ id: answer, view, question }, { status: ending, finishReason, error }) {
    /** @type {Record<string, string>} */
    const notes = {
      gone: strings.gone,
      stopped: strings.stopped,
      length: strings.length,
      content_filter: strings.contentFilter,
    };
    const note = error ? status.sentence(error) : (notes[ending] ?? notes[finishReason ?? ""]);
    const again = () => {
      if (composer.isIdle()) void send(question, { id: answer, view, question });
    };
    const offered = question && (ending === "gone" || error?.retryable);
    view.finish(ending, note, offered ? button(strings.askAgain, again) : undefined);
    return note;
  }

  /** @param {string} answer @returns {AnswerUrls} */
  function answerUrls(answer) {
    const url = urls.answers + answer;
    return { answer: url, events: `${url}/events`, stop: `${url}/stop` };
  }

  /** @param {Shown} shown @param {AnswerUrls} answer */
  function follow(shown, answer) {
    const { view } = shown;
    let trouble = 0;
    following++;
    composer.setMode("busy");
    /** @param {boolean} connected */
    const onConnection = (connected) => {
      if (!connected) trouble ||= setTimeout(status.warn, UNNOTICED_MS, strings.lost);
      else if (trouble) {
        clearTimeout(trouble);
        trouble = 0;
        status.show("");
      }
    };
    const leave = followAnswer(answer, {
      onText: view.append,
      onReasoning: view.reason,
      onTool: view.tool,
      onSnapshot: ({ text, reasoning }) => view.replace(text, reasoning),
      onConnection,
      onEnd(outcome) {
        clearTimeout(trouble);
        const note = finish(shown, outcome);
        if (--following === 0) idle();
        status.announce(note ?? strings.finished);
      },
    });
    closed.signal.addEventListener("abort", () => {
      clearTimeout(trouble);
      leave();
    });
    stop = () => {
      composer.setMode("stopping");
      stopAnswer(answer.stop, closed.signal).catch((error) => {
        if (closed.signal.aborted || following === 0) return;
        if (error instanceof ApiError && error.code === "not_found") {
          // A new server has taken over, and only the old one can end it: we stop listening.
          leave();
          finish(shown, { status: "stopped", finishReason: "stopped", error: null });
          if (--following === 0) idle();
          return;
        }
        composer.setMode("busy");
        status.warn(status.sentence(error));
      });
    };
  }

  function idle() {
    stop = () => {};
    status.show("");
    composer.setMode("idle");
  }

  /**
   * What the stop button does until the server has replied.
   * @returns {{signal: AbortSignal, onTrouble: () => void, isStopped: () => boolean}}
   */
  function beginAttempt() {
    const givenUp = new AbortController();
    let stopped = false;
    let troubled = false;
    // An undisturbed request is about to tell the answer's id, with which it can be stopped.
    const stopOrWait = () => stopped && troubled && givenUp.abort();
    closed.signal.addEventListener("abort", () => givenUp.abort());
    status.show("");
    composer.setMode("busy");
    stop = () => {
      stopped = true;
      composer.setMode("stopping");
      stopOrWait();
    };
    const onTrouble = () => {
      troubled = true;
      status.warn(strings.lost);
      stopOrWait();
    };
    return { signal: givenUp.signal, onTrouble, isStopped: () => stopped };
  }

  /**
   * @param {string} text
   * @param {Shown} [replaced] the answer to write anew; absent: `text` is a new question
   */
  async function send(text, replaced) {
    const question = replaced ? null : thread.addQuestion(text);
    const view = thread.addAnswer();
    const { signal, onTrouble, isStopped } = beginAttempt();
    if (replaced) replaced.view.root.hidden = true;
    try {
      const target = replaced
        ? { regenerate: replaced.id }
        : { message: text, conversation_id: id };
      const { answer, events, stop: stopUrl } = await askOnce(target, signal, onTrouble);
      replaced?.view.root.remove();
      status.show("");
      if (id !== answer.conversation_id) surroundings.onId((id = answer.conversation_id));
      follow(
        { id: answer.id, view, question: text },
        { ...answerUrls(answer.id), events, stop: stopUrl },
      );
      if (isStopped()) stop();
    } catch (error) {
      if (closed.signal.aborted) return;
      view.root.remove();
      question?.remove();
      thread.recount();
      if (replaced) replaced.view.root.hidden = false;
      idle();
      if ((id || replaced) && error instanceof ApiError && error.code === "not_found") {
        id = null;
        thread.addNote(strings.newConversation);
        void send(text);
        return;
      }
      if (!replaced) composer.restore(text);
      if (!signal.aborted) status.warn(status.sentence(error));
    }
  }

  /** @param {object} target @param {AbortSignal} signal @param {() => void} onTrouble */
  async function askOnce(target, signal, onTrouble) {
    const body = JSON.stringify({ ...target, model: surroundings.chosenModel() });
    const key = unsure.body === body ? unsure.key : newKey();
    unsure = { body, key };
    const started = ask(urls.chat, body, key, signal, onTrouble);
    return started.finally(() => {
      if (!signal.aborted) unsure = { body: "", key: "" };
    });
  }

  /** @param {import("./api.js").Message[]} messages */
  function draw(messages) {
    let question = "";
    for (const message of messages) {
      if (message.role === "user") thread.addQuestion((question = message.content));
      if (message.role !== "assistant") continue;
      const view = thread.addAnswer();
      const shown = { id: message.id, view, question: message === messages.at(-1) ? question : "" };
      if (isRunning(message)) follow(shown, answerUrls(message.id));
      else {
        view.replace(message.content, message.reasoning);
        finish(shown, outcomeOf(message));
      }
    }
  }

  async function load() {
    if (!id) return;
    composer.setMode("loading");
    status.show(strings.loading);
    try {
      const url = `${urls.conversations}/${id}`;
      const onTrouble = () => status.warn(strings.lost);
      const { title, messages } = await getConversation(url, closed.signal, onTrouble);
      idle();
      surroundings.onTitle(title);
      draw(messages);
    } catch (error) {
      if (closed.signal.aborted) return;
      status.show("");
      const missing = error instanceof ApiError && error.code === "not_found";
      const offer = missing
        ? button(strings.newChat, () => surroundings.onId(null))
        : button(strings.tryAgain, () => {
            note.remove();
            void load();
          });
      const note = thread.addNote(missing ? strings.noConversation : status.sentence(error), offer);
    }
  }

  return {
    load,
    send,
    stop: () => stop(),
    /** Leaves the page to another conversation; a running answer goes on. */
    close() {
      closed.abort();
      idle();
    },
  };
}
