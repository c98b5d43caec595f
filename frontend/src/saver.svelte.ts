/**
 * Sends annotations to the server, and keeps each in the browser until the server has acknowledged it.
 *
 * An annotation is written to localStorage in the same moment as it is typed. It leaves it when the server has
 * answered, so that a reload, a crash of either side or a second tab loses none. It is kept and sent under the key of
 * the study on which it was made: whatever is served at this address later, it lands nowhere else.
 */
import { ApiError, send } from "./api";
import {
  allDrafts,
  draftKey,
  draftsOf,
  readDraft,
  same,
  settle,
  takeOver,
  writeDraft,
  type Origin,
  type Unsent,
} from "./lib/drafts";
import { messageOf } from "./session.svelte";
import type { Annotation, Judgement, Place, Schema } from "./types";

export interface State {
  status: "idle" | "typing" | "saving" | "saved" | "waiting" | "conflict" | "refused";
  message: string;
  time: Date | null;
  theirs: Annotation | null;
  value: Annotation | null;
  /** Whether the browser keeps it until it is sent. */
  kept: boolean;
}
/**
 * `written`: what was typed since the server's last answer; another tab may have sent any of it. `sent`: what this
 * page and those before it have sent since; it is kept with the draft, since a page that is closed hears no answer.
 */
interface Job {
  annotation: Annotation;
  timer: ReturnType<typeof setTimeout> | null;
  sending: boolean;
  dirty: boolean;
  written: Annotation[];
  sent: Annotation[];
}

const PAUSE = 350,
  RETRY = 2000;
const REFUSED = [400, 404, 409, 413, 422];

export class Saver {
  states = $state<Record<string, State>>({});
  /** Grows with each acknowledged annotation. */
  acknowledged = $state(0);
  last = $state.raw<Annotation | null>(null);
  /** What this browser keeps for other studies, and from earlier versions. */
  strangers = $state.raw<Unsent[]>([]);
  origin: Origin = { key: "", name: "", autoencoder: "" };
  /** What names each worklist in every database, by number. */
  worklists: Record<number, string> = {};
  #jobs = new Map<string, Job>();

  key = (place: Place): string => draftKey(place, this.origin.key);
  state = (place: Place): State | undefined => this.states[this.key(place)];
  /** Of this study: what the server has not got. */
  get unsent(): Unsent[] {
    return allDrafts(localStorage).filter((draft) => draft.at === this.key(draft.annotation));
  }

  #say(key: string, change: Partial<State>): void {
    const before = this.states[key] ?? {
      status: "idle",
      message: "",
      time: null,
      theirs: null,
      value: null,
      kept: true,
    };
    this.states[key] = { ...before, ...change };
  }

  #keep(annotation: Annotation, sent: Annotation[] = []): boolean {
    const uid = annotation.worklist === null ? null : (this.worklists[annotation.worklist] ?? null);
    return writeDraft(localStorage, { annotation, time: Date.now(), origin: this.origin, uid, sent });
  }

  /** The page has opened a study. */
  begin(origin: Origin): void {
    this.origin = origin;
    this.look();
  }

  look(): void {
    this.strangers = allDrafts(localStorage).filter((draft) => draft.at !== this.key(draft.annotation));
  }

  /** What to show for an item: the server's, or a draft that it has not got yet, which is then sent. */
  open(place: Place, given: Annotation | null): Annotation {
    const key = this.key(place),
      job = this.#jobs.get(key);
    if (job) return job.annotation;
    const known = this.states[key];
    if (known?.status === "saved" && known.value && known.value.version > (given?.version ?? 0))
      return known.value;
    const stored = given;
    const draft = readDraft(localStorage, key);
    const what = settle(draft, stored);
    if (draft && what === "send") {
      const value = { ...draft.annotation, version: stored?.version ?? 0 };
      this.#say(key, { value });
      this.#queue(value, 0, draft.sent);
      return value;
    }
    if (draft && what === "conflict") {
      this.#say(key, { status: "conflict", theirs: stored, value: draft.annotation, message: "" });
      return draft.annotation;
    }
    localStorage.removeItem(key);
    const empty: Annotation = {
      ...place,
      verdict: null,
      name: "",
      comment: "",
      terms: {},
      specific_for: null,
      version: 0,
    };
    const value = stored ?? empty;
    this.#say(key, {
      status: stored ? "saved" : "idle",
      value,
      theirs: null,
      message: "",
      time: stored?.updated ? new Date(stored.updated) : null,
    });
    return value;
  }

  /** Drafts of other items that an earlier page left behind are sent too. */
  flush(rater: string): void {
    for (const { annotation, sent } of draftsOf(localStorage, this.origin.key, rater)) {
      const key = this.key(annotation);
      if (!this.#jobs.has(key) && !["conflict", "refused"].includes(this.states[key]?.status ?? "")) {
        this.#say(key, { value: annotation });
        this.#queue(annotation, 0, sent);
      }
    }
  }

  change(place: Place, judgement: Judgement, now = false): void {
    const key = this.key(place),
      version = this.#jobs.get(key)?.annotation.version ?? this.states[key]?.value?.version ?? 0;
    const annotation: Annotation = { ...place, ...judgement, version };
    const kept = this.#keep(annotation, this.#jobs.get(key)?.sent);
    const conflict = this.states[key]?.status === "conflict";
    this.#say(key, { value: annotation, kept, ...(conflict ? {} : { status: "typing", message: "" }) });
    if (!conflict) this.#queue(annotation, now ? 0 : PAUSE);
  }

  #queue(annotation: Annotation, wait: number, sent: readonly Annotation[] = []): void {
    const key = this.key(annotation),
      job = this.#jobs.get(key) ?? {
        annotation,
        timer: null,
        sending: false,
        dirty: false,
        written: [...sent],
        sent: [...sent],
      };
    job.annotation = annotation;
    job.written.push(annotation);
    this.#jobs.set(key, job);
    if (job.sending) {
      job.dirty = true;
      return;
    }
    if (job.timer) clearTimeout(job.timer);
    job.timer = setTimeout(() => void this.#send(key, job), wait);
  }

  async #send(key: string, job: Job): Promise<void> {
    job.timer = null;
    job.sending = true;
    job.dirty = false;
    const sent = job.annotation;
    this.#say(key, { status: "saving" });
    if (!job.sent.some((one) => same(one, sent))) job.sent.push(sent);
    const draft = readDraft(localStorage, key)?.annotation;
    if (draft && same(draft, sent)) this.#keep(sent, job.sent); // another tab may have written something newer
    try {
      const stored = await send("put", "/api/annotations", sent as Schema<"AnnotationRequest">);
      this.#stored(key, job, sent, stored);
    } catch (error) {
      job.sending = false;
      const current =
        error instanceof ApiError &&
        error.status === 409 &&
        error.body &&
        typeof error.body === "object" &&
        "current" in error.body
          ? (error.body.current as Annotation | null)
          : undefined;
      if (current !== undefined) {
        // The answer to an earlier attempt may have been lost, or another tab has sent it: what is stored is then what
        // was typed here.
        const typed = current ? job.written.find((one) => same(current, one)) : undefined;
        if (current && typed) {
          job.dirty ||= !same(current, sent);
          this.#stored(key, job, typed, current);
          return;
        }
        this.#jobs.delete(key);
        this.#say(key, { status: "conflict", theirs: current, value: job.annotation, message: "" });
      } else if (error instanceof ApiError && REFUSED.includes(error.status)) {
        if (job.dirty) {
          this.#queue(job.annotation, PAUSE);
          return;
        }
        this.#jobs.delete(key);
        this.#say(key, { status: "refused", message: error.message });
      } else {
        this.#say(key, { status: "waiting", message: messageOf(error) });
        job.timer = setTimeout(() => void this.#send(key, job), RETRY);
      }
    }
  }

  #stored(key: string, job: Job, sent: Annotation, stored: Annotation): void {
    job.sending = false;
    job.written = [];
    job.sent = [];
    this.acknowledged += 1;
    this.last = stored;
    if (job.dirty) {
      // Typed on while it was sent: the next one builds on what is stored now.
      const next = { ...job.annotation, version: stored.version };
      this.#say(key, { status: "typing", value: next, kept: this.#keep(next) });
      this.#queue(next, PAUSE);
      return;
    }
    this.#jobs.delete(key);
    const draft = readDraft(localStorage, key)?.annotation;
    if (draft && same(draft, sent)) localStorage.removeItem(key);
    this.#say(key, {
      status: "saved",
      time: new Date(),
      value: { ...sent, version: stored.version },
      message: "",
      theirs: null,
      kept: true,
    });
  }

  /** Another window has saved this one. Without changes here, its state is taken over. */
  async elsewhere(place: Place, fetchStored: () => Promise<Annotation | null>): Promise<Annotation | null> {
    const key = this.key(place),
      status = this.states[key]?.status;
    if (this.#jobs.has(key) || (status !== "saved" && status !== "idle")) return null;
    const stored = await fetchStored();
    if (!stored || this.#jobs.has(key) || stored.version <= (this.states[key]?.value?.version ?? 0))
      return null;
    this.#say(key, {
      status: "saved",
      value: stored,
      time: stored.updated ? new Date(stored.updated) : new Date(),
    });
    return stored;
  }

  /** The rater has decided which of the two stays. */
  resolve(place: Place, keep: "mine" | "theirs"): Annotation {
    const key = this.key(place),
      state = this.states[key],
      theirs = state?.theirs ?? null;
    const empty: Annotation = {
      ...place,
      verdict: null,
      name: "",
      comment: "",
      terms: {},
      specific_for: null,
      version: 0,
    };
    if (keep === "theirs") {
      localStorage.removeItem(key);
      const value = theirs ?? empty;
      this.#say(key, { status: "saved", value, theirs: null, message: "" });
      return value;
    }
    const mine = { ...(state?.value ?? empty), version: theirs?.version ?? 0 };
    this.#say(key, { status: "typing", theirs: null, value: mine, kept: this.#keep(mine) });
    this.#queue(mine, 0);
    return mine;
  }

  /** The rater says that drafts of an earlier version belong to this study. */
  adopt(drafts: readonly Unsent[]): void {
    for (const draft of drafts) {
      const { worklist } = draft.annotation;
      if (
        takeOver(
          localStorage,
          draft,
          this.origin,
          worklist === null ? null : (this.worklists[worklist] ?? null),
        )
      ) {
        const key = this.key(draft.annotation);
        if (!this.#jobs.has(key)) {
          this.#say(key, { value: draft.annotation });
          this.#queue(draft.annotation, 0, draft.sent);
        }
      }
    }
    this.look();
  }

  /** The rater has said that drafts of other studies are not needed. */
  discard(drafts: readonly Unsent[]): void {
    for (const draft of drafts) localStorage.removeItem(draft.at);
    this.look();
  }
}

export const saver = new Saver();
if (typeof window !== "undefined") {
  window.addEventListener("beforeunload", (event) => {
    if (Object.values(saver.states).some((state) => !state.kept && state.status !== "saved"))
      event.preventDefault();
  });
}
