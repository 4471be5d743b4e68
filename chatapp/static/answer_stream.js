// @ts-check
/**
 * Follows one answer to its end, whatever happens to the connection. No DOM.
 *
 * `EventSource` reconnects by itself while the network is what fails; after an HTTP error it gives
 * up for good. Then the answer's snapshot tells whether there is anything left to follow.
 */

import { ApiError, getAnswer } from "./api.js";
import { onWake, pause } from "./pause.js";

/**
 * @typedef {import("./api.js").Ending} Ending
 * @typedef {import("./api.js").Fault} Fault
 * @typedef {"connecting" | "open" | "reconnecting" | "asking" | "pausing" | "ended"} State
 * @typedef {{status: "done" | "stopped" | "failed" | "gone", finishReason?: string | null,
 *   error?: Fault | null}} Outcome `gone`: the server does not know the answer any more
 * @typedef {{id: string, name: string, result?: unknown, error?: unknown}} Tool
 * @typedef {{text: string, reasoning: string | null}} Whole
 * @typedef {object} Follower
 * @property {(text: string) => void} onText the next piece of the answer
 * @property {(text: string) => void} onReasoning
 * @property {(tool: Tool) => void} onTool
 * @property {(whole: Whole) => void} onSnapshot replaces everything received before
 * @property {(connected: boolean) => void} onConnection
 * @property {(outcome: Outcome) => void} onEnd called once, last
 */

/** State → the states that may follow it. @type {Record<State, State[]>} */
const MOVES = {
  connecting: ["open", "reconnecting", "asking", "connecting", "ended"],
  open: ["open", "reconnecting", "asking", "connecting", "ended"],
  reconnecting: ["open", "reconnecting", "asking", "connecting", "ended"],
  asking: ["pausing", "ended"],
  pausing: ["connecting", "ended"],
  ended: [],
};

/** A page that comes back into view distrusts a connection that was silent for longer. */
const TRUSTED_MS = 30_000;

/** Whether the answer is still being written. @param {Ending} answer */
export const isRunning = (answer) => answer.status === "pending" || answer.status === "streaming";

/** How an answer that no longer runs has ended. @param {Ending} answer @returns {Outcome} */
export function outcomeOf({ status, finish_reason: finishReason, error }) {
  if (status === "failed") return { status, error };
  return { status: finishReason === "stopped" ? finishReason : "done", finishReason };
}

/**
 * @param {{answer: string, events: string}} urls of the snapshot and of the events
 * @param {Follower} follower
 * @returns {() => void} ends following; the answer goes on
 */
export function followAnswer(urls, follower) {
  /** @type {State} */
  let state = "connecting";
  /** @type {EventSource} */
  let source;
  let cursor = "";
  let failures = 0;
  let heard = Date.now();
  const ended = new AbortController();

  /** Type of event → what to do with its data. @type {Record<string, (data: any) => void>} */
  const handlers = {
    start: () => follower.onSnapshot({ text: "", reasoning: null }),
    message: ({ text }) => follower.onText(text),
    reasoning: ({ text }) => follower.onReasoning(text),
    tool: follower.onTool,
    snapshot: follower.onSnapshot,
    done: (data) => end(outcomeOf({ status: "done", ...data })),
    failed: (error) => end({ status: "failed", error }),
  };

  /** @param {State} next */
  function move(next) {
    if (!MOVES[state].includes(next)) throw new Error(`no way from ${state} to ${next}`);
    state = next;
    if (next === "ended") {
      source.close();
      ended.abort();
    } else if (next !== "connecting") follower.onConnection(next === "open");
  }

  function connect() {
    const from = cursor && `${urls.events.includes("?") ? "&" : "?"}last_event_id=${cursor}`;
    source?.close();
    source = new EventSource(urls.events + from);
    source.onopen = () => move("open");
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) askForSnapshot();
      else move("reconnecting");
    };
    for (const [type, handle] of Object.entries(handlers)) {
      source.addEventListener(type, hear(handle));
    }
  }

  /** @param {(data: any) => void} handle @returns {(event: MessageEvent<string>) => void} */
  function hear(handle) {
    return ({ data, lastEventId }) => {
      cursor = lastEventId;
      failures = 0;
      heard = Date.now();
      handle(JSON.parse(data));
    };
  }

  async function askForSnapshot() {
    move("asking");
    try {
      const answer = await getAnswer(urls.answer, ended.signal);
      cursor = String(answer.last_event);
      follower.onSnapshot(answer);
      if (!isRunning(answer)) return end(outcomeOf(answer));
    } catch (error) {
      if (ended.signal.aborted) return;
      if (!(error instanceof ApiError)) throw error;
      if (error.code === "not_found") return end({ status: "gone" });
    }
    move("pausing");
    await pause(failures++, ended.signal).then(reconnect, () => {});
  }

  function reconnect() {
    move("connecting");
    connect();
  }

  /** @param {Outcome} outcome */
  function end(outcome) {
    move("ended");
    follower.onEnd(outcome);
  }

  connect();
  onWake((cause) => {
    if (state === "asking" || state === "pausing") return;
    const stale = state !== "open" || cause === "online" || Date.now() - heard > TRUSTED_MS;
    if (stale) reconnect();
  }, ended.signal);
  return () => void (state === "ended" || move("ended"));
}
