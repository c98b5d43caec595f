/** Something asked of the server, for a view to show: the answer, or why there is none. */
import { messageOf } from "./session.svelte";

export class Loaded<T> {
  value = $state.raw<T | null>(null);
  error = $state<string | null>(null);
  loading = $state(true);
  #asked = 0;

  constructor(
    private readonly make: () => Promise<T> | null,
    private readonly clear: boolean,
  ) {}

  /** The last one asked for wins; the old answer stays until the new one is there, unless `clear`. */
  async ask(): Promise<void> {
    const promise = this.make(),
      mine = ++this.#asked;
    this.error = null;
    if (!promise) {
      this.value = null;
      this.loading = false;
      return;
    }
    if (this.clear) this.value = null;
    this.loading = true;
    try {
      const value = await promise;
      if (mine === this.#asked) this.value = value;
    } catch (error) {
      if (mine === this.#asked) {
        this.error = messageOf(error);
        this.value = null;
      }
    } finally {
      if (mine === this.#asked) this.loading = false;
    }
  }
}

/** Asks again whenever what `make` reads has changed. */
export function loaded<T>(make: () => Promise<T> | null, clear = false): Loaded<T> {
  const state = new Loaded(make, clear);
  $effect(() => {
    void state.ask();
  });
  return state;
}
