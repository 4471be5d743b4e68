/**
 * What the modules of the page say to each other. For editors and `tsc`; browsers never load it.
 */

import type { Conversation, Fault, Message, Outcome, Settings, Tool } from "./net/types";

export type * from "./markdown/types";
export type * from "./net/types";

/** Where the server has things; `answers` and `conversation_page` want an id behind them. */
export type Urls = Record<
	"page" | "conversation_page" | "chat" | "answers" | "conversations" | "models" | "push",
	string
>;
/** `visitor` tells the visitors of one browser apart, and names none of them. */
export type Config = {
	title: string;
	urls: Urls;
	visitor: string;
	/** Keys, such as `mod+shift+o`, by what they do. */
	shortcuts: Record<string, string>;
	message_max_chars: number;
};
/** The `script` part of a `texts.*.json`. */
export type Texts = Record<string, any>;
/** Elements by their `data-chat`. */
export type Refs = Record<string, any>;

// Messages

export type View = {
	/** Null until the server has told it. */
	id: string | null;
	root: HTMLElement;
	content(): string;
	/** Takes over what the server knows. */
	update(message: Message): void;
};
/** @param text to begin with; absent: the question's own */
export type QuestionView = View & { role: "user"; edit(text?: string): void };
export type AnswerView = View & {
	role: "assistant";
	/** All that follows is told from the start. */
	rewind(): void;
	append(text: string): void;
	reason(text: string): void;
	/** A call, or what came of it. */
	tool(tool: Tool): void;
	replace(text: string, reasoning: string | null): void;
	/**
	 * @param note one line on how it ended
	 * @param action what the reader may do about it
	 */
	finish(status: Outcome["status"], note?: string, action?: HTMLElement | false): Promise<void>;
};
export type MessageView = QuestionView | AnswerView;
/** What the reader may do with a message. */
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
	/** @param value null forgets it */
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
	/** Null: the conversation is not made yet. */
	id: string | null;
	conversation: OpenConversation;
	thread: Thread;
	composer: Composer;
	sidebar: Sidebar;
	options: OptionsDialog;
	/** Opens a conversation, or with null a new one, as its own entry in the history. */
	go(id: string | null): void;
	/** Shows an error, unless the chat is over. */
	report(error: unknown): void;
};
/** By the names that `data-do` and the shortcuts use; a key presses nothing. */
export type Commands = Record<string, (pressed: any, event: any) => unknown>;

export type StatusLine = {
	/** @param text stays until the next; an empty one says nothing */
	show(text: string, tone?: "calm" | "warning"): void;
	warn(text: string): void;
	/** For screen readers alone. */
	announce(text: string): void;
	/** Says what is about to be done, and does it unless the reader takes it back in time. */
	offerUndo(text: string, act: () => void, undo: () => void): void;
	/** Does at once what could still be taken back. */
	settle(): void;
	/** An `ApiError` or a `Fault` in the reader's language; anything else is thrown on. */
	sentence(error: any): string;
};
export type CreateStatusLine = (refs: Refs, texts: Texts) => StatusLine;

export type Thread = {
	add(message: HTMLElement): void;
	addNote(text: string, action?: HTMLElement): HTMLElement;
	/** Says again whether there is anything. */
	recount(): void;
	/** @param greet whether the visitor is at a beginning */
	clear(greet: boolean): void;
	/** Goes to the end, and along with it. */
	stay(): void;
};
export type CreateThread = (refs: Refs) => Thread;

export type Mode = "idle" | "loading" | "busy" | "stopping";
export type Composer = {
	isIdle(): boolean;
	setMode(mode: Mode): void;
	/** Changes to the draft that is kept under this key. */
	open(key: string): void;
	/** The draft's conversation was made. */
	rename(key: string): void;
	/** Puts back what was sent, before anything written since. */
	restore(text: string): void;
};
export type CreateComposer = (
	chat: Chat,
	handlers: { onSend(text: string): void; onStop(): void },
) => Composer;

export type OptionsDialog = {
	/** What differs from the server's defaults. */
	chosen(): Settings;
	/** Takes over a conversation's settings; undefined: it has none of its own. */
	load(settings?: Settings): void;
	open(): void;
};
export type CreateOptionsDialog = (
	chat: Chat,
	onChange: (changed: Settings) => void,
) => OptionsDialog;

export type Sidebar = {
	/** Fetches the list anew, after so many ms. */
	soon(ms?: number): void;
	showMore(): void;
	/** @param id the conversation that is open */
	mark(id: string | null): void;
	rename(id: string): void;
	remove(id: string): void;
	toggle(): void;
	/** Gives a narrow page back to the thread; whether there was anything to do. */
	rest(): boolean;
	find(): void;
};
export type CreateSidebar = (chat: Chat, onOpen: (id: string | null) => void) => Sidebar;

export type Surroundings = {
	thread: Thread;
	composer: Composer;
	settings: () => Settings;
	/** A conversation was made; null: a new one is wanted. */
	onId(id: string | null): void;
	onLoad(conversation: Conversation): void;
};
export type OpenConversation = {
	/** @param isQuiet what is shown is good enough until it has come */
	load(isQuiet?: boolean): Promise<void>;
	send(text: string): Promise<void>;
	change(fields: object): Promise<unknown>;
	stop(): void;
	newestAnswer(): string | undefined;
	editNewest(): void;
	/** Leaves the page to another conversation; a running answer goes on. */
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
	/** A question is on its way, so what the server has is not the last word. */
	isAsking: boolean;
	/** Something has been shown in place of the messages. */
	isOpening: boolean;
	/** Tells the latest load from those that it has overtaken. */
	loads: number;
	load: OpenConversation["load"];
	askOnce: AskOnce;
	/** What the stop button does at the moment. */
	stop(): void;
};
/** Where a question goes: to the end, or `at` a message whose place it takes. */
export type Place = { edit?: string | null; regenerate?: string | null; at?: number };
/** One question on its way. */
export type Attempt = {
	/** The reader has given it up. */
	signal: AbortSignal;
	/** The reader wants it stopped as soon as that is possible. */
	isStopped: boolean;
	onTrouble(): void;
};
export type AskOnce = (body: object, attempt: Attempt) => Promise<{ answer: Started }>;
export type Started = { id: string; conversation_id: string };

/** A text of an answer; it may be told again from the start. */
export type MessageText = {
	content(): string;
	append(text: string): void;
	replace(text: string): void;
	rewind(): void;
	/** @param isComplete nothing of it is still to be told */
	end(isComplete: boolean): Promise<void>;
};
