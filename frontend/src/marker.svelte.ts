/**
 * Sends marks of taught concepts to the server, and keeps each in the browser until the server has acknowledged it.
 *
 * A mark has a name of its own, so that one sent again after a lost answer counts once. Marks are kept and sent
 * under the key of the study on which they were made, like judgements (`saver.svelte.ts`).
 */
import { ApiError, send } from "./api";
import { batchOf, dropPointed, newUid, pointedOf, writePointed, type Pointed } from "./lib/marks";
import type { State } from "./saver.svelte";
import { messageOf } from "./session.svelte";
import type { MarkKind } from "./types";

const RETRY = 2000;
const REFUSED = [400, 404, 409, 413, 422];

export class Marker {
  /** Grows with each answer of the server that has stored marks. */
  acknowledged = $state(0);
  state = $state.raw<State>({
    status: "idle",
    message: "",
    time: null,
    theirs: null,
    value: null,
    kept: true,
  });
  /** What the server has not got yet, oldest first. */
  waiting = $state.raw<Pointed[]>([]);
  /** What it got since this page was opened, each with the value that `acknowledged` had then. */
  stored = $state.raw<{ mark: Pointed; at: number }[]>([]);
  #study = "";
  #sending = false;
  #timer: ReturnType<typeof setTimeout> | null = null;

  /** The page has opened a study: what an earlier page left is sent. */
  begin(study: string): void {
    this.#study = study;
    this.stored = [];
    this.waiting = pointedOf(localStorage, study);
    if (this.waiting.length) void this.#send();
  }

  /** Somebody points at patches of a cell, or at all of it (null). */
  point(
    place: { concept: string; rater: string; dataset: string; row: number },
    patches: readonly (number | null)[],
    mark: MarkKind,
  ): void {
    const time = Date.now();
    const made = patches.map((patch, i): Pointed => ({
      ...place,
      uid: newUid(),
      patch,
      mark,
      time: time + i / 1e4,
      study: this.#study,
    }));
    const kept = made.map((one) => writePointed(localStorage, one)).every(Boolean);
    this.waiting = [...this.waiting, ...made];
    this.#say({ status: "saving", kept });
    void this.#send();
  }

  /** Marks made since a state that the server has answered. */
  since = (at: number): Pointed[] => [
    ...this.stored.filter((one) => one.at > at).map((one) => one.mark),
    ...this.waiting,
  ];

  #say(change: Partial<State>): void {
    this.state = { ...this.state, message: "", ...change };
  }

  async #send(): Promise<void> {
    if (this.#sending) return;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = null;
    this.#sending = true;
    let refused = "";
    while (this.waiting.length) {
      const batch = batchOf(this.waiting),
        first = batch[0];
      if (!first) break;
      const marks = batch.map(({ uid, dataset, row, patch, mark }) => ({ uid, dataset, row, patch, mark }));
      try {
        await send("put", "/api/marks", { concept: first.concept, rater: first.rater, marks });
        for (const one of batch) dropPointed(localStorage, one);
        this.stored = [...this.stored, ...batch.map((mark) => ({ mark, at: this.acknowledged + 1 }))];
        this.#done(batch);
        this.acknowledged += 1;
      } catch (error) {
        if (error instanceof ApiError && REFUSED.includes(error.status)) {
          refused = error.message; // they stay in the browser, and are sent again when the page is opened
          this.#done(batch);
          continue;
        }
        this.#sending = false;
        this.#say({ status: "waiting", message: messageOf(error) });
        this.#timer = setTimeout(() => void this.#send(), RETRY);
        return;
      }
    }
    this.#sending = false;
    this.#say(
      refused ? { status: "refused", message: refused } : { status: "saved", time: new Date(), kept: true },
    );
  }

  #done(batch: readonly Pointed[]): void {
    const gone = new Set(batch.map((one) => one.uid));
    this.waiting = this.waiting.filter((one) => !gone.has(one.uid));
  }
}

export const marker = new Marker();
if (typeof window !== "undefined") {
  window.addEventListener("beforeunload", (event) => {
    if (!marker.state.kept && marker.waiting.length) event.preventDefault();
  });
}
