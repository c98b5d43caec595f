/** Which concept is taught on the view that is open, and what a click on one of its cells marks. */
import { kindOf, nextKind, type Held } from "./lib/marks";
import { marker } from "./marker.svelte";
import { withQuery } from "./route";
import { go, session } from "./session.svelte";

class Teaching {
  /** What keeps a click from marking. */
  problem = $state("");
  /** The concept that was taught when teaching was last stopped: starting again takes it up. */
  #last = "";

  /** The concept that is being taught; empty where it has no name yet, null where none is. */
  get concept(): string | null {
    const { teach, teaching } = session.route.query;
    return session.mayJudge ? (teach ?? (teaching ? "" : null)) : null;
  }
  /** What an address keeps of it when another cell or concept is opened. */
  get query(): { teach: string | undefined; teaching: string | undefined } {
    const { teach, teaching } = session.route.query;
    return { teach, teaching };
  }

  toggle(): void {
    if (!session.mayJudge) return;
    const now = this.concept,
      start = now === null;
    if (!start) this.#last = now;
    const teach = start && this.#last ? this.#last : null;
    this.problem = "";
    go(withQuery(session.route, { teach, teaching: start && !teach ? "1" : null }), true);
  }

  /** Teach the concept of this name from now on. */
  call(text: string): void {
    const given = text.trim().replace(/\s+/g, " ").slice(0, 200);
    this.problem = "";
    if (given !== this.concept)
      go(withQuery(session.route, { teach: given || null, teaching: given ? null : "1" }), true);
  }

  /** Marks all of the patches as pressing the first of them would; null is the whole cell. */
  mark(
    cell: { dataset: string; row: number },
    held: readonly Held[],
    patches: (number | null)[],
    from: number | null,
  ): void {
    const concept = this.concept ?? "",
      rater = session.rater;
    this.problem = !concept
      ? "Name the concept first."
      : !rater
        ? "Enter your name first: marks are stored under it."
        : "";
    if (this.problem)
      document.querySelector<HTMLInputElement>(concept ? "[data-rater]" : "[data-teach-name]")?.focus();
    else marker.point({ concept, rater, ...cell }, patches, nextKind(kindOf(held, from, rater)));
  }
}

export const teaching = new Teaching();
