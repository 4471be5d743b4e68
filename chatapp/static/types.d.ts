/**
 * The types that the page's modules share. For editors and `tsc`; browsers never load it.
 */

import type { Conversation, Fault, Message, Outcome, Settings, Tool } from "./net/types";

export type * from "./markdown/types";
export type * from "./net/types";

/** The server's URLs; an id is appended to `answers` and `conversation_page`. */
export type Urls = Record<
	"page" | "conversation_page" | "chat" | "answers" | "conversations" | "models" | "push",
	string
>;
/** `visitor` distinguishes the visitors of one browser without naming them. */
export type Config = {
	title: string;
	urls: Urls;
	visitor: string;
	/** Keys, such as `mod+shift+o`, by action. */
	shortcuts: Record<string, string>;
	message_max_chars: number;
};
/** The `script` part of a `texts.*.json`. */
export type Texts = Record<string, any>;
/** Elements by their `data-chat`. */
export type Refs = Record<string, any>;

// Messages

export type View = {
	/** Null until the server has sent it. */
	id: string | null;
	root: HTMLElement;
	content(): string;
	/** Applies the server's version. */
	update(message: Message): void;
};
/** @param text to begin with; absent: the question's own */
export type QuestionView = View & { role: "user"; edit(text?: string): void };
export type AnswerView = View & {
	role: "assistant";
	/** The text starts again from the beginning. */
	rewind(): void;
	append(text: string): void;
	reason(text: string): void;
	/** A call, or its outcome. */
	tool(tool: Tool): void;
	replace(text: string, reasoning: string | null): void;
	/**
	 * @param note one line on how it ended
	 * @param action what the reader may do about it
	 */
	finish(status: Outcome["status"], note?: string, action?: HTMLElement | false): Promise<void>;
};
export type MessageView = QuestionView | AnswerView;
/** What the reader can do with a message. */
export type Actions = {
	edit(view: View, text: string): void;
	regenerate(view: View): void;
	choose(id: string): void;
};
export type CreateQuestion = (chat: Chat, actions: Actions, text: string) => QuestionView;
export type CreateAnswer = (chat: Chat, actions: Actions) => AnswerView;

// The parts of the page

export type Memory = {
	recall(key: string): string | null;
	/** @param value null removes it */
	keep(key: string, value: string | null): void;
};
/**
 * What starts a chat. `choices` are kept for all visitors of the browser, the rest for this one.
 */
export type Beginning = Memory & {
	host: HTMLElement & { restart(): void };
	root: HTMLElement;
	isPage: boolean;
	texts: Texts;
	config: Config;
	/** Ends with this chat. */
	signal: AbortSignal;
	choices: Memory;
};
export type StartChat = (beginning: Beginning) => void;
/** What all parts of a chat share. */
export type Chat = Beginning & { refs: Refs; status: StatusLine };
/** A chat with the conversation that is open in it. */
export type OpenChat = {
	chat: Chat;
	/** Null: the conversation does not exist yet. */
	id: string | null;
	conversation: OpenConversation;
	thread: Thread;
	composer: Composer;
	sidebar: Sidebar;
	options: OptionsDialog;
	/** Opens a conversation (null: a new one) as its own history entry. */
	go(id: string | null): void;
	/** Shows an error, unless the chat is over. */
	report(error: unknown): void;
};
/** By the names that `data-do` and shortcuts use; a key has no pressed element. */
export type Commands = Record<string, (pressed: any, event: any) => unknown>;

export type StatusLine = {
	/** @param text shown until the next one; empty: shows nothing */
	show(text: string, tone?: "calm" | "warning"): void;
	warn(text: string): void;
	/** Only for screen readers. */
	announce(text: string): void;
	/** Announces an action, and does it unless the reader undoes it in time. */
	offerUndo(text: string, act: () => void, undo: () => void): void;
	/** Does now what could still be undone. */
	settle(): void;
	/** An `ApiError` or a `Fault` in the reader's language; rethrows anything else. */
	sentence(error: any): string;
};
export type CreateStatusLine = (refs: Refs, texts: Texts) => StatusLine;

export type Thread = {
	add(message: HTMLElement): void;
	addNote(text: string, action?: HTMLElement): HTMLElement;
	/** Updates whether there is anything. */
	recount(): void;
	/** @param greet whether to greet the visitor */
	clear(greet: boolean): void;
	/** Scrolls to the end, and follows it. */
	stay(): void;
};
export type CreateThread = (refs: Refs) => Thread;

export type Mode = "idle" | "loading" | "busy" | "stopping";
export type Composer = {
	isIdle(): boolean;
	setMode(mode: Mode): void;
	/** Switches to the draft stored under this key. */
	open(key: string): void;
	/** The draft's conversation was created. */
	rename(key: string): void;
	/** Puts the sent text back, before anything written since. */
	restore(text: string): void;
};
export type CreateComposer = (
	chat: Chat,
	handlers: { onSend(text: string): void; onStop(): void },
) => Composer;

export type OptionsDialog = {
	/** What differs from the server's defaults. */
	chosen(): Settings;
	/** Applies a conversation's settings; undefined: it has none. */
	load(settings?: Settings): void;
	open(): void;
};
export type CreateOptionsDialog = (
	chat: Chat,
	onChange: (changed: Settings) => void,
) => OptionsDialog;

export type Sidebar = {
	/** Fetches the list again, after this many ms. */
	soon(ms?: number): void;
	showMore(): void;
	/** @param id the conversation that is open */
	mark(id: string | null): void;
	rename(id: string): void;
	remove(id: string): void;
	toggle(): void;
	/** On a narrow page, closes the list. Returns whether it was open. */
	rest(): boolean;
	find(): void;
};
export type CreateSidebar = (chat: Chat, onOpen: (id: string | null) => void) => Sidebar;

export type Surroundings = {
	thread: Thread;
	composer: Composer;
	settings: () => Settings;
	/** A conversation was created; null: a new one is wanted. */
	onId(id: string | null): void;
	onLoad(conversation: Conversation): void;
};
export type OpenConversation = {
	/** @param isQuiet keep showing the current content until it is loaded */
	load(isQuiet?: boolean): Promise<void>;
	send(text: string): Promise<void>;
	change(fields: object): Promise<unknown>;
	stop(): void;
	newestAnswer(): string | undefined;
	editNewest(): void;
	/** Gives the page to another conversation; a running answer continues. */
	close(): void;
};
export type CreateConversation = (
	id: string | null,
	chat: Chat,
	surroundings: Surroundings,
) => OpenConversation;
/** What the functions of one conversation share. */
export type Conversing = Surroundings & {
	id: string | null;
	chat: Chat;
	actions: Actions;
	/** Ends when another conversation is opened. */
	signal: AbortSignal;
	/** From the first message to the last. */
	views: MessageView[];
	/** The answer that is followed; `leave` ends that. */
	running: { view: AnswerView; leave: AbortController } | null;
	/** A question is being sent, so the server's version is not final. */
	isAsking: boolean;
	/** Something is shown instead of the messages. */
	isOpening: boolean;
	/** Identifies the latest load, so that earlier ones are ignored. */
	loads: number;
	load: OpenConversation["load"];
	askOnce: AskOnce;
	/** What the stop button does now. */
	stop(): void;
};
/** Where a question goes: to the end, or `at` the message that it replaces. */
export type Place = { edit?: string | null; regenerate?: string | null; at?: number };
/** One question being sent. */
export type Attempt = {
	/** The reader cancelled it. */
	signal: AbortSignal;
	/** The reader wants it stopped as soon as possible. */
	isStopped: boolean;
	onTrouble(): void;
};
export type AskOnce = (body: object, attempt: Attempt) => Promise<{ answer: Started }>;
export type Started = { id: string; conversation_id: string };

/** The text of an answer; it may start again from the beginning. */
export type MessageText = {
	content(): string;
	append(text: string): void;
	replace(text: string): void;
	rewind(): void;
	/** @param isComplete whether nothing follows */
	end(isComplete: boolean): Promise<void>;
};
