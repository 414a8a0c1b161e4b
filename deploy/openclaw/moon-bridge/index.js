// Moon's side inside the OpenClaw gateway: an event spool, three text slots and a bounded wait before compactions.
//
// Everything passes through one folder, <home>/bridge, so that neither side misses anything while the other is away:
//   status.json                  this plugin: {version, pid, startedAt, promptBuiltAt, unaskedAt, stoppedAt}, see announce
//   events.jsonl, events.1.jsonl this plugin: a header {"v":1,"generation":N}, then one event a line; figures, never texts
//   consumed                     Moon: {generation, offset} of what it has dealt with
//   daemon.json                  Moon: {pid, at, freshMs, answers}, its heartbeat, and whether it acknowledges compactions
//   acks/<event id>              Moon: "archived, go on"
//   slots/<slot>/<hash>.md       Moon: context, summary and passage; <hash> is the SHA-256 of the session key
//
// It never makes a folder, never follows a symbolic link to a text, never throws into the agent, and does nothing at all
// while the folder is missing.
import crypto from "node:crypto";
import fs from "node:fs";
import path from "node:path";

const ID = "moon-bridge";
const VERSION = "0.1.0";
const TEXT_LIMIT = 256 * 1024;
const ROTATE_CONSUMED = 8 * 1024 * 1024;
const ROTATE_ALWAYS = 64 * 1024 * 1024;
const ACK_POLL_MS = 50;
const DEFAULT_WAIT_MS = 20_000;
const DEFAULT_FRESH_MS = 180_000;
const LOCK_STALE_MS = 10_000;
const ACK_STALE_MS = 600_000;
const PENDING_MS = 900_000;
// Moon places a summary, asks for the compaction and waits for it this long; then it takes the text away again.
const SUMMARY_YOUNG_MS = 300_000;
const MARKS_PER_SESSION = 20_000;
const SESSIONS_REMEMBERED = 64;
// Events whose loss would cost more than a late reaction.
const DURABLE = new Set(["before_compaction", "before_reset", "session_end", "injected"]);
// A gateway that stops keeps its windows; after a compaction the same one goes on, perhaps under another id.
const KEEPS_WINDOW = new Set(["shutdown", "restart", "compaction"]);

const sha256 = (text) => crypto.createHash("sha256").update(text).digest("hex");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const text = (value, limit = 512) => (typeof value === "string" ? value.slice(0, limit) : undefined);
const figure = (value) => (Number.isFinite(value) ? value : undefined);

function isFolder(folder) {
  try {
    return fs.lstatSync(folder).isDirectory();
  } catch {
    return false;
  }
}

function readJson(file) {
  try {
    return JSON.parse(fs.readFileSync(file, "utf8"));
  } catch {
    return undefined;
  }
}

/**
 * Reads at most `limit` bytes of a regular file; undefined if it is missing, larger, a link, not UTF-8 text, or was written
 * longer than `youngMs` ago.
 */
function readSlot(file, { limit = TEXT_LIMIT, youngMs = Infinity } = {}) {
  let fd;
  try {
    fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK);
    const stat = fs.fstatSync(fd);
    if (!stat.isFile() || stat.size === 0 || stat.size > limit) return undefined;
    if (Math.abs(Date.now() - stat.mtimeMs) > youngMs) return undefined;
    const bytes = Buffer.alloc(Number(stat.size));
    let length = 0;
    while (length < bytes.length) {
      const got = fs.readSync(fd, bytes, length, bytes.length - length, length);
      if (got === 0) break;
      length += got;
    }
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, length));
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) fs.closeSync(fd);
  }
}

function remove(file) {
  try {
    fs.unlinkSync(file);
  } catch {
    // Already gone, or not ours to remove: either way there is nothing better to do here.
  }
}

/** True if the process exists; one that belongs to somebody else exists too. */
function lives(pid) {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error?.code === "EPERM";
  }
}

/** The event spool: appended by any process that loaded the plugin, read by Moon. */
class Spool {
  constructor(folder) {
    this.folder = folder;
    this.file = path.join(folder, "events.jsonl");
    this.previous = path.join(folder, "events.1.jsonl");
    this.consumed = path.join(folder, "consumed");
    this.generation = 0;
    this.lost = 0;
  }

  /** Appends one event and returns its id, or undefined if it could not be written. */
  emit(hook, ctx, figures = {}) {
    if (!isFolder(this.folder)) return undefined;
    const id = crypto.randomUUID();
    const event = {
      v: 1,
      id,
      ts: Date.now(),
      pid: process.pid,
      hook,
      sessionKey: text(ctx?.sessionKey, 4096),
      agentId: text(ctx?.agentId),
      sessionId: text(ctx?.sessionId),
      runId: text(ctx?.runId),
      ...figures,
      ...(this.lost > 0 ? { lost: this.lost } : {}),
    };
    try {
      this.rotate();
      this.append(JSON.stringify(event) + "\n", DURABLE.has(hook));
      this.lost = 0;
      return id;
    } catch {
      this.lost += 1;
      return undefined;
    }
  }

  append(line, durable) {
    // Two tries: if the file is rotated away under our hand, the line is written again to the new one. Moon may then see
    // it twice, never not at all.
    for (let attempt = 0; attempt < 2; attempt += 1) {
      const fd = this.open();
      try {
        const torn = !this.endsWithNewline(fd);
        const bytes = Buffer.from(torn ? "\n" + line : line);
        if (fs.writeSync(fd, bytes) !== bytes.length) throw new Error("short write");
        if (durable) fs.fsyncSync(fd);
        const mine = fs.fstatSync(fd, { bigint: true });
        const named = fs.statSync(this.file, { bigint: true, throwIfNoEntry: false });
        if (named && named.ino === mine.ino && named.dev === mine.dev) return;
      } finally {
        fs.closeSync(fd);
      }
    }
  }

  open() {
    const { O_RDWR, O_APPEND, O_NOFOLLOW } = fs.constants;
    for (let attempt = 0; ; attempt += 1) {
      try {
        return fs.openSync(this.file, O_RDWR | O_APPEND | O_NOFOLLOW);
      } catch (error) {
        if (error?.code !== "ENOENT" || attempt > 0) throw error;
        this.begin();
      }
    }
  }

  endsWithNewline(fd) {
    const { size } = fs.fstatSync(fd);
    if (size === 0) return true;
    const last = Buffer.alloc(1);
    return fs.readSync(fd, last, 0, 1, size - 1) === 1 && last[0] === 10;
  }

  /** Makes an empty spool with the next generation in its first line; if another process was quicker, its file stands. */
  begin() {
    const generation =
      Math.max(this.generation, this.generationOf(this.previous), readJson(this.consumed)?.generation || 0) + 1;
    const temporary = path.join(this.folder, `.events-${process.pid}-${crypto.randomUUID()}`);
    try {
      const fd = fs.openSync(temporary, "wx", 0o600);
      try {
        fs.writeSync(fd, JSON.stringify({ v: 1, generation }) + "\n");
        fs.fsyncSync(fd);
      } finally {
        fs.closeSync(fd);
      }
      fs.linkSync(temporary, this.file);
      this.generation = generation;
    } catch (error) {
      if (error?.code !== "EEXIST") throw error;
    } finally {
      remove(temporary);
    }
  }

  generationOf(file) {
    let fd;
    try {
      fd = fs.openSync(file, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW);
      const head = Buffer.alloc(256);
      const length = fs.readSync(fd, head, 0, head.length, 0);
      const generation = JSON.parse(head.subarray(0, length).toString("utf8").split("\n", 1)[0]).generation;
      return Number.isSafeInteger(generation) && generation > 0 ? generation : 0;
    } catch {
      return 0;
    } finally {
      if (fd !== undefined) fs.closeSync(fd);
    }
  }

  /**
   * Keeps the spool bounded. Once Moon reads in the present generation, the one before it is of no use, so above 8 MiB the
   * present one takes its place: nothing unread is lost. At 64 MiB without Moon the oldest generation gives way.
   */
  rotate() {
    const size = fs.statSync(this.file, { throwIfNoEntry: false })?.size ?? 0;
    if (size < ROTATE_CONSUMED) return;
    const generation = this.generationOf(this.file);
    this.generation = Math.max(this.generation, generation);
    const read = readJson(this.consumed)?.generation || 0;
    if (size < ROTATE_ALWAYS && read < generation) return;
    this.locked(() => {
      if (this.generationOf(this.file) !== generation) return;
      fs.renameSync(this.file, this.previous);
      this.begin();
    });
  }

  locked(work) {
    const lock = path.join(this.folder, "rotate.lock");
    try {
      fs.closeSync(fs.openSync(lock, "wx", 0o600));
    } catch {
      const made = fs.statSync(lock, { throwIfNoEntry: false })?.mtimeMs;
      if (made !== undefined && Date.now() - made > LOCK_STALE_MS) remove(lock);
      return;
    }
    try {
      work();
    } finally {
      remove(lock);
    }
  }
}

/** Moon's texts for a session. */
class Slots {
  constructor(folder) {
    this.folder = folder;
  }

  file(slot, sessionKey) {
    const root = path.join(this.folder, "slots");
    const folder = path.join(root, slot);
    return isFolder(root) && isFolder(folder) ? path.join(folder, `${sha256(sessionKey)}.md`) : undefined;
  }

  read(slot, sessionKey, options) {
    const file = this.file(slot, sessionKey);
    return file && readSlot(file, options);
  }

  /** The passage for this run. Taken out of the slot by a rename, so that the next run cannot see it again. */
  passage(sessionKey, runId) {
    const file = this.file("passage", sessionKey);
    if (!file) return undefined;
    const sent = this.sent(file, runId);
    const again = readSlot(sent);
    if (again !== undefined) return { text: again, repeated: true };
    if (readSlot(file) === undefined) return undefined;
    fs.renameSync(file, sent);
    const claimed = readSlot(sent);
    return claimed === undefined ? undefined : { text: claimed, repeated: false };
  }

  sent(file, runId) {
    return file.replace(/\.md$/, `.sent-${sha256(runId).slice(0, 16)}`);
  }

  /** Removes what other runs of the session claimed: a session has one run at a time, so those are over. */
  sweepPassages(sessionKey, keepRunId) {
    const file = this.file("passage", sessionKey);
    if (!file) return;
    const keep = path.basename(this.sent(file, keepRunId));
    const prefix = path.basename(file).replace(/\.md$/, ".sent-");
    for (const name of fs.readdirSync(path.dirname(file)))
      if (name.startsWith(prefix) && name !== keep) remove(path.join(path.dirname(file), name));
  }
}

/** Which session a compaction belongs to: OpenClaw asks a provider for a summary without saying whose. */
class Compactions {
  constructor({ pending, marks }) {
    this.pending = pending;
    this.marks = marks;
  }

  begin(sessionKey) {
    this.pending.delete(sessionKey);
    this.pending.set(sessionKey, { at: Date.now(), used: undefined });
  }

  /** Ends it and returns the hash of Moon's text if that was its summary. */
  end(sessionKey) {
    const used = this.pending.get(sessionKey)?.used;
    this.pending.delete(sessionKey);
    return used;
  }

  /** Remembers hashes by which messages of this session are known again. No text is kept. */
  learn(sessionKey, messages) {
    if (!Array.isArray(messages)) return;
    const marks = new Set();
    for (const message of messages.slice(-MARKS_PER_SESSION)) {
      const mark = this.mark(message);
      if (mark) marks.add(mark);
    }
    this.marks.delete(sessionKey);
    this.marks.set(sessionKey, marks);
    if (this.marks.size > SESSIONS_REMEMBERED) this.marks.delete(this.marks.keys().next().value);
  }

  mark(message) {
    if (typeof message?.idempotencyKey === "string") return `k:${message.idempotencyKey.slice(0, 256)}`;
    return Number.isFinite(message?.timestamp) ? `t:${message.role}:${message.timestamp}` : undefined;
  }

  /**
   * The session whose messages these are, or undefined when that is not certain. Certain is: exactly one session under
   * compaction is known to hold one of them; or only one is under compaction and nothing is known of its messages yet.
   */
  owner(messages) {
    const now = Date.now();
    for (const [key, { at }] of this.pending) if (now - at > PENDING_MS) this.pending.delete(key);
    const given = (Array.isArray(messages) ? messages : []).map((m) => this.mark(m)).filter(Boolean);
    const keys = [...this.pending.keys()];
    const holders = keys.filter((key) => given.some((mark) => this.marks.get(key)?.has(mark)));
    if (holders.length === 1) return holders[0];
    return holders.length === 0 && keys.length === 1 && !this.marks.get(keys[0])?.size ? keys[0] : undefined;
  }
}

class Bridge {
  constructor(home, waitMs) {
    this.folder = path.join(home, "bridge");
    this.waitMs = waitMs;
    this.spool = new Spool(this.folder);
    this.slots = new Slots(this.folder);
    this.state = sharedState(home);
    this.compactions = new Compactions(this.state);
    this.built = this.state.built;
  }

  /**
   * Tells Moon that a running gateway has loaded the plugin, when it was first asked for texts (promptBuiltAt), and when a
   * model was first called without asking (unaskedAt): OpenClaw leaves out hooks it was not allowed to call, without a word.
   */
  announce() {
    this.tell({ version: VERSION, pid: process.pid, startedAt: this.state.startedAt, ...this.state.seen });
  }

  tell(status) {
    if (!isFolder(this.folder)) return;
    const file = path.join(this.folder, "status.json");
    const line = JSON.stringify(status);
    if (JSON.stringify(readJson(file)) === line) return;
    const temporary = path.join(this.folder, `.status-${process.pid}-${crypto.randomUUID()}`);
    try {
      fs.writeFileSync(temporary, line + "\n", { mode: 0o600, flag: "wx" });
      fs.renameSync(temporary, file);
    } finally {
      remove(temporary);
    }
  }

  /** Notes the first time something happened. */
  saw(what) {
    if (this.state.seen[what]) return;
    this.state.seen[what] = Date.now();
    this.quietly(() => this.announce());
  }

  /** The gateway stops, or gives the plugin up while it goes on. */
  retire() {
    const told = readJson(path.join(this.folder, "status.json"));
    this.state.seen = {};
    if (told?.pid === process.pid && !told.stoppedAt) this.tell({ ...told, stoppedAt: Date.now() });
  }

  /** Moon's heartbeat, if it is fresh and of a process that exists. */
  heartbeat() {
    const beat = readJson(path.join(this.folder, "daemon.json"));
    const age = Date.now() - Number(beat?.at);
    const fresh = age < (figure(beat?.freshMs) ?? DEFAULT_FRESH_MS) && age > -DEFAULT_FRESH_MS;
    return fresh && lives(beat.pid) ? beat : undefined;
  }

  moonIsAlive() {
    return this.heartbeat() !== undefined;
  }

  /** A single pass of Moon's is alive too, but does one thing after the other: it cannot answer while it compacts. */
  moonAnswers() {
    const beat = this.heartbeat();
    return beat !== undefined && beat.answers !== false;
  }

  async beforeCompaction(event, ctx) {
    const key = ctx?.sessionKey;
    if (key) this.compactions.begin(key);
    const waiting = this.waitMs > 0 && this.moonAnswers();
    const id = this.spool.emit("before_compaction", ctx, {
      messageCount: figure(event?.messageCount),
      tokenCount: figure(event?.tokenCount),
      waiting,
    });
    if (!id || !waiting) return;
    const began = Date.now();
    const acked = await this.waitForAck(id, began + this.waitMs);
    this.spool.emit("compaction_released", ctx, { acked, waitedMs: Date.now() - began, awaited: id });
  }

  async waitForAck(id, deadline) {
    const ack = path.join(this.folder, "acks", id);
    this.sweepAcks();
    for (;;) {
      if (fs.existsSync(ack)) {
        remove(ack);
        return true;
      }
      if (Date.now() >= deadline || !isFolder(this.folder)) return false;
      await sleep(ACK_POLL_MS);
    }
  }

  /** Acknowledgements that came too late for their compaction. */
  sweepAcks() {
    try {
      const folder = path.join(this.folder, "acks");
      for (const name of fs.readdirSync(folder)) {
        const file = path.join(folder, name);
        if (Date.now() - fs.lstatSync(file).mtimeMs > ACK_STALE_MS) remove(file);
      }
    } catch {
      // No folder of acknowledgements yet.
    }
  }

  afterCompaction(event, ctx) {
    const key = ctx?.sessionKey;
    const used = key && this.compactions.end(key);
    if (used) this.forgetSummary(key, used);
    this.spool.emit("after_compaction", ctx, {
      messageCount: figure(event?.messageCount),
      tokenCount: figure(event?.tokenCount),
      compactedCount: figure(event?.compactedCount),
    });
  }

  /** Empties the summary slot, unless Moon has put another text there meanwhile. */
  forgetSummary(key, used) {
    const file = this.slots.file("summary", key);
    const now = file && readSlot(file);
    if (now !== undefined && sha256(now) === used) remove(file);
  }

  /**
   * Moon's text for the compaction under way, or "" so that OpenClaw's own summariser does it. A text that a Moon left behind
   * which is gone, or that has lain there for long, was made for another moment: what came since would be in no summary.
   */
  summarize(params) {
    if (!this.moonIsAlive()) return "";
    const key = this.compactions.owner(params?.messages);
    const found = key && this.slots.read("summary", key, { youngMs: SUMMARY_YOUNG_MS });
    if (!found) return "";
    const digest = sha256(found);
    this.compactions.pending.get(key).used = digest;
    this.spool.emit("injected", { sessionKey: key }, { slot: "summary", sha256: digest });
    return found;
  }

  /** The session gives a window up: a summary of that one must not reach the next. */
  windowEnds(key) {
    if (!key) return;
    this.compactions.end(key);
    const summary = this.slots.file("summary", key);
    if (summary) remove(summary);
  }

  beforePromptBuild(event, ctx) {
    const key = ctx?.sessionKey;
    if (!key || !isFolder(this.folder)) return undefined;
    this.saw("promptBuiltAt");
    this.compactions.end(key);
    this.compactions.learn(key, event?.messages);
    // Without a run id every build counts as a run of its own.
    const runId = ctx.runId ?? crypto.randomUUID();
    this.remember(runId);
    const result = {};
    const context = this.slots.read("context", key);
    if (context) {
      result.appendSystemContext = context;
      this.spool.emit("injected", ctx, { slot: "context", sha256: sha256(context) });
    }
    const passage = this.quietly(() => {
      this.slots.sweepPassages(key, runId);
      return this.slots.passage(key, runId);
    });
    if (passage) {
      // Recalled words are data beside the user's turn, never part of the instructions.
      result.prependContext = passage.text;
      const figures = { slot: "passage", sha256: sha256(passage.text), repeated: passage.repeated };
      this.spool.emit("injected", ctx, figures);
    }
    if (!context && !passage) this.spool.emit("not_injected", ctx);
    return context || passage ? result : undefined;
  }

  remember(runId) {
    this.built.add(runId);
    if (this.built.size > 256) this.built.delete(this.built.values().next().value);
  }

  llmOutput(event, ctx) {
    const usage = event?.usage ?? {};
    const runId = ctx?.runId ?? event?.runId;
    // A model was called by a runtime that never asked this plugin for context.
    if (ctx?.sessionKey && !this.built.has(runId)) {
      this.saw("unaskedAt");
      this.spool.emit("not_injected", ctx, { reason: "no_prompt_build" });
    }
    this.spool.emit("llm_output", ctx, {
      input: figure(usage.input),
      output: figure(usage.output),
      cacheRead: figure(usage.cacheRead),
      cacheWrite: figure(usage.cacheWrite),
      total: figure(usage.total),
      contextTokenBudget: figure(event?.contextTokenBudget),
    });
  }

  agentEnd(event, ctx) {
    // The run may go on: a failed attempt ends like this too, and the next one needs the passage again.
    if (ctx?.sessionKey) this.compactions.learn(ctx.sessionKey, event?.messages);
    this.spool.emit("agent_end", ctx, {
      success: event?.success === true,
      durationMs: figure(event?.durationMs),
      messageCount: figure(event?.messages?.length),
    });
  }

  sessionEnd(event, ctx) {
    const named = { ...ctx, sessionKey: ctx?.sessionKey ?? event?.sessionKey, sessionId: ctx?.sessionId ?? event?.sessionId };
    const reason = text(event?.reason, 64);
    this.spool.emit("session_end", named, { reason });
    if (!KEEPS_WINDOW.has(reason)) this.quietly(() => this.windowEnds(named.sessionKey));
  }

  beforeReset(event, ctx) {
    this.spool.emit("before_reset", ctx, { reason: text(event?.reason, 64) });
    this.quietly(() => this.windowEnds(ctx?.sessionKey));
  }

  quietly(work) {
    try {
      return work();
    } catch {
      return undefined;
    }
  }
}

// OpenClaw loads a plugin several times in one process (for the gateway, for its agents), each time as a module of its own.
// What one of them learns of a session the others need, so this is kept where all of them find it.
function sharedState(home) {
  const all = (globalThis[Symbol.for("moon-bridge.state.v1")] ??= new Map());
  if (!all.has(home)) all.set(home, { startedAt: Date.now(), built: new Set(), pending: new Map(), marks: new Map() });
  const state = all.get(home);
  // May have been made by an older version of the plugin, which was replaced while the gateway went on.
  state.seen ??= {};
  return state;
}

export default {
  id: ID,
  name: "Moon bridge",
  description: "Moon's event spool, text slots and compaction wait",
  register(api) {
    const { home, waitMs } = api.pluginConfig ?? {};
    if (typeof home !== "string" || !path.isAbsolute(home)) return;
    const bridge = new Bridge(home, Number.isInteger(waitMs) ? waitMs : DEFAULT_WAIT_MS);
    // A hook of ours may fail, the agent may not.
    const on = (hook, handler, options) =>
      api.on(
        hook,
        async (event, ctx) => {
          try {
            return await handler(event, ctx);
          } catch {
            return undefined;
          }
        },
        options,
      );
    const announced = (handler) => (event, ctx) => {
      bridge.quietly(() => bridge.announce());
      return handler(event, ctx);
    };
    on("gateway_start", announced((event) => bridge.spool.emit("gateway_start", undefined, { port: figure(event?.port) })));
    on("gateway_stop", () => {
      bridge.spool.emit("gateway_stop");
      bridge.retire();
    });
    on("session_start", announced((event, ctx) => bridge.spool.emit("session_start", ctx)));
    on("session_end", (event, ctx) => bridge.sessionEnd(event, ctx));
    on("before_reset", (event, ctx) => bridge.beforeReset(event, ctx));
    on("before_compaction", announced((event, ctx) => bridge.beforeCompaction(event, ctx)), {
      timeoutMs: bridge.waitMs + 5_000,
    });
    on("after_compaction", (event, ctx) => bridge.afterCompaction(event, ctx));
    on("before_prompt_build", announced((event, ctx) => bridge.beforePromptBuild(event, ctx)));
    on("llm_output", (event, ctx) => bridge.llmOutput(event, ctx));
    on("agent_end", (event, ctx) => bridge.agentEnd(event, ctx));
    api.registerService?.({ id: ID, start: () => bridge.quietly(() => bridge.announce()), stop: () => undefined });
    api.registerCompactionProvider?.({
      id: ID,
      label: "Moon",
      summarize: async (params) => bridge.quietly(() => bridge.summarize(params)) ?? "",
    });
  },
};
