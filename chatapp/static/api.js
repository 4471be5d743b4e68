// @ts-check
/** The server's JSON routes. Every failure but an abort is an `ApiError`. */

import { pause } from "./pause.js";

/**
 * @typedef {{code: string, message: string, retryable?: boolean}} Fault
 * @typedef {{id: string, status: string, finish_reason: string | null, error: Fault | null}} Ending
 * @typedef {Ending & {role: string, content: string, reasoning: string | null}} Message
 * @typedef {{id: string, title: string | null, messages: Message[]}} Conversation
 * @typedef {Ending & {text: string, reasoning: string | null, last_event: number}} Answer
 * @typedef {{answer: {id: string, conversation_id: string}, events: string, stop: string}} Started
 * @typedef {{models: {id: string}[], default: string | null, notice: Fault | null}} Models
 */

const TIMEOUT_MS = 60_000;

/** What the server, or the way to it, says instead of a result. */
export class ApiError extends Error {
  /**
   * @param {string} code of the server's list, or `network`: whether the request arrived is unknown
   * @param {number} status 0 where no reply came
   * @param {string} [message] the server's own sentence
   */
  constructor(code, status, message) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

/**
 * @param {string} url
 * @param {AbortSignal} signal
 * @param {RequestInit} [options]
 * @returns {Promise<any>} the reply's JSON
 */
async function request(url, signal, options) {
  const cut = new AbortController();
  const abort = () => cut.abort(signal.reason);
  const timer = setTimeout(() => cut.abort(), TIMEOUT_MS);
  signal.addEventListener("abort", abort);
  try {
    signal.throwIfAborted();
    const response = await fetch(url, { ...options, signal: cut.signal });
    const body = await response.json().catch(() => null);
    if (response.ok && body) return body;
    if (body?.error) throw new ApiError(body.error.code, response.status, body.error.message);
    // A proxy's page, or a reply that was cut: only a 4xx tells that the server did nothing.
    const refused = response.status >= 400 && response.status < 500;
    throw new ApiError(refused ? "unexpected" : "network", response.status);
  } catch (error) {
    if (signal.aborted || error instanceof ApiError) throw error;
    throw new ApiError("network", 0);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  }
}

/**
 * Repeats with growing pauses while the network is what fails.
 * @template T
 * @param {() => Promise<T>} attempt
 * @param {AbortSignal} signal
 * @param {() => void} [onTrouble] called after each attempt that failed
 */
async function persist(attempt, signal, onTrouble) {
  for (let failures = 0; ; failures++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof ApiError) || error.code !== "network") throw error;
      onTrouble?.();
      await pause(failures, signal);
    }
  }
}

/** A new idempotency key. `randomUUID` exists on https and localhost only. */
export function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Asks, and goes on asking with the same key until the server has said yes or no.
 * @param {string} url
 * @param {string} body JSON
 * @param {string} key
 * @param {AbortSignal} signal gives up; the server may have started the answer nevertheless
 * @param {() => void} onTrouble
 * @returns {Promise<Started>}
 */
export function ask(url, body, key, signal, onTrouble) {
  const headers = {
    Accept: "application/json",
    "Content-Type": "application/json",
    "Idempotency-Key": key,
  };
  return persist(() => request(url, signal, { method: "POST", headers, body }), signal, onTrouble);
}

/**
 * Stops an answer, however often the network fails.
 * @param {string} url
 * @param {AbortSignal} signal
 */
export function stopAnswer(url, signal) {
  return persist(() => request(url, signal, { method: "POST" }), signal);
}

/** @type {(url: string, signal: AbortSignal) => Promise<Answer>} */
export const getAnswer = request;

/** @type {(url: string, signal: AbortSignal, onTrouble: () => void) => Promise<Conversation>} */
export const getConversation = (url, signal, onTrouble) =>
  persist(() => request(url, signal), signal, onTrouble);

/** @type {(url: string, signal: AbortSignal) => Promise<Models>} */
export const getModels = (url, signal) => persist(() => request(url, signal), signal);
