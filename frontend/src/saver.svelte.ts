/**
 * Sends judgements to the server, and keeps each in the browser until the server has acknowledged it.
 *
 * A judgement is written to localStorage in the same moment as it is typed. It leaves it when the server has answered, so
 * that a reload, a crash of either side or a second tab loses none.
 */
import { api, ApiError } from "./api";
import { draftKey, draftsOf, readDraft, same, settle, writeDraft } from "./lib/drafts";
import { messageOf } from "./session.svelte";
import type { Annotation, Judgement } from "./types";

export type Place = Pick<Annotation, "worklist" | "dataset" | "latent" | "rater">;
export interface State { status: "idle" | "typing" | "saving" | "saved" | "waiting" | "conflict" | "refused"; message: string; time: Date | null; theirs: Annotation | null; value: Annotation | null }
interface Job { annotation: Annotation; timer: ReturnType<typeof setTimeout> | null; sending: boolean; dirty: boolean }

const PAUSE = 350, RETRY = 2000;

class Saver {
  states = $state<Record<string, State>>({});
  /** Grows with each acknowledged judgement. */
  acknowledged = $state(0);
  last = $state.raw<Annotation | null>(null);
  study = "";
  #jobs = new Map<string, Job>();

  key = (place: Place): string => draftKey(place, this.study);
  state = (place: Place): State | undefined => this.states[this.key(place)];
  get pending(): number { return Object.values(this.states).filter(state => !["idle", "saved"].includes(state.status)).length; }

  #say(key: string, change: Partial<State>): void {
    const before = this.states[key] ?? { status: "idle", message: "", time: null, theirs: null, value: null };
    this.states[key] = { ...before, ...change };
  }

  /** What to show for an item: the server's, or a draft that it has not got yet, which is then sent. */
  open(place: Place, given: Annotation | null): Annotation {
    const key = this.key(place), job = this.#jobs.get(key);
    if (job) return job.annotation;
    const known = this.states[key];
    if (known?.status === "saved" && known.value && known.value.version > (given?.version ?? 0)) return known.value;
    const stored = given;
    const draft = readDraft(localStorage, key)?.annotation ?? null;
    const what = settle(draft, stored);
    if (draft && what === "send") { this.#say(key, { value: draft }); this.#queue(draft, 0); return draft; }
    if (draft && what === "conflict") { this.#say(key, { status: "conflict", theirs: stored, value: draft, message: "" }); return draft; }
    localStorage.removeItem(key);
    const empty: Annotation = { ...place, verdict: null, name: "", comment: "", terms: {}, specific_for: null, version: 0 };
    const value = stored ?? empty;
    this.#say(key, { status: stored ? "saved" : "idle", value, theirs: null, message: "", time: stored?.updated ? new Date(stored.updated) : null });
    return value;
  }

  /** Drafts of other items that an earlier page left behind are sent too. */
  flush(rater: string): void {
    for (const { annotation } of draftsOf(localStorage, this.study, rater)) {
      const key = this.key(annotation);
      if (!this.#jobs.has(key) && this.states[key]?.status !== "conflict") { this.#say(key, { value: annotation }); this.#queue(annotation, 0); }
    }
  }

  change(place: Place, judgement: Judgement, now = false): void {
    const key = this.key(place), version = this.#jobs.get(key)?.annotation.version ?? this.states[key]?.value?.version ?? 0;
    const annotation: Annotation = { ...place, ...judgement, version };
    const kept = writeDraft(localStorage, this.study, { annotation, time: Date.now() });
    const conflict = this.states[key]?.status === "conflict";
    this.#say(key, { value: annotation, ...(conflict ? {} : { status: "typing", message: kept ? "" : "This browser keeps no drafts; wait for “Saved” before you leave." }) });
    if (!conflict) this.#queue(annotation, now ? 0 : PAUSE);
  }

  #queue(annotation: Annotation, wait: number): void {
    const key = this.key(annotation), job = this.#jobs.get(key) ?? { annotation, timer: null, sending: false, dirty: false };
    job.annotation = annotation;
    this.#jobs.set(key, job);
    if (job.sending) { job.dirty = true; return; }
    if (job.timer) clearTimeout(job.timer);
    job.timer = setTimeout(() => void this.#send(key, job), wait);
  }

  async #send(key: string, job: Job): Promise<void> {
    job.timer = null;
    job.sending = true;
    job.dirty = false;
    const sent = job.annotation;
    this.#say(key, { status: "saving" });
    try {
      const stored = await api.annotate(sent);
      this.#stored(key, job, sent, stored);
    } catch (error) {
      job.sending = false;
      const current = error instanceof ApiError && error.status === 409 && error.body && typeof error.body === "object" && "current" in error.body ? (error.body.current as Annotation | null) : undefined;
      if (current !== undefined) {
        // The answer to an earlier attempt may have been lost: what is stored is then what was sent.
        if (current && same(current, sent)) { this.#stored(key, job, sent, current); return; }
        this.#jobs.delete(key);
        this.#say(key, { status: "conflict", theirs: current, value: job.annotation, message: "" });
      } else if (error instanceof ApiError && [400, 404, 413, 422].includes(error.status)) {
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
    this.acknowledged += 1;
    this.last = stored;
    if (job.dirty) {
      // Typed on while it was sent: the next one builds on what is stored now.
      const next = { ...job.annotation, version: stored.version };
      writeDraft(localStorage, this.study, { annotation: next, time: Date.now() });
      this.#say(key, { status: "typing", value: next });
      this.#queue(next, PAUSE);
      return;
    }
    this.#jobs.delete(key);
    const draft = readDraft(localStorage, key)?.annotation;
    if (draft && same(draft, sent)) localStorage.removeItem(key);
    this.#say(key, { status: "saved", time: new Date(), value: { ...sent, version: stored.version }, message: "", theirs: null });
  }

  /** Another window has saved this one. Without changes here, its state is taken over. */
  async elsewhere(place: Place, fetchStored: () => Promise<Annotation | null>): Promise<Annotation | null> {
    const key = this.key(place), status = this.states[key]?.status;
    if (this.#jobs.has(key) || (status !== "saved" && status !== "idle")) return null;
    const stored = await fetchStored();
    if (!stored || this.#jobs.has(key) || stored.version <= (this.states[key]?.value?.version ?? 0)) return null;
    this.#say(key, { status: "saved", value: stored, time: stored.updated ? new Date(stored.updated) : new Date() });
    return stored;
  }

  /** The rater has decided which of the two stays. */
  resolve(place: Place, keep: "mine" | "theirs"): Annotation {
    const key = this.key(place), state = this.states[key], theirs = state?.theirs ?? null;
    const empty: Annotation = { ...place, verdict: null, name: "", comment: "", terms: {}, specific_for: null, version: 0 };
    if (keep === "theirs") {
      localStorage.removeItem(key);
      const value = theirs ?? empty;
      this.#say(key, { status: "saved", value, theirs: null, message: "" });
      return value;
    }
    const mine = { ...(state?.value ?? empty), version: theirs?.version ?? 0 };
    writeDraft(localStorage, this.study, { annotation: mine, time: Date.now() });
    this.#say(key, { status: "typing", theirs: null, value: mine });
    this.#queue(mine, 0);
    return mine;
  }
}

export const saver = new Saver();
if (typeof window !== "undefined") {
  window.addEventListener("beforeunload", event => { if (Object.values(saver.states).some(state => state.message.startsWith("This browser keeps no drafts") && state.status !== "saved")) event.preventDefault(); });
}
