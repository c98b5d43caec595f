/** What all views share: the study, agreed names, and what this browser prefers. */
import { ApiError, get, getAgain, isStatic, shown } from "./api";
import type { ScaleName } from "./lib/colours";
import { isCalled, isDescribed, nameIn } from "./lib/filter";
import { parse, type Route } from "./route";
import type { DatasetInfo, Names, Study } from "./types";

export interface Overlay {
  on: boolean;
  opacity: number;
  scale: ScaleName;
  smooth: boolean;
  /** The patches above the threshold are outlined, and nothing is coloured. */
  outlined: boolean;
  /** Colours reach up to the strongest patch of each image, not of all that stand together. */
  own: boolean;
  /** Colours of a single image reach up to the strongest patch of the data set's reference images. */
  whole: boolean;
}
export type Theme = "system" | "light" | "dark";
interface Preferences {
  theme: Theme;
  overlay: Overlay;
  rater: string;
  dataset: string;
  /** Stop of the tour; -1 before it was offered, -2 when it is over. */
  tour: number;
}

/** The description of a concept of which nothing is known. */
export const NOTHING = "nothing known";
const KEY = "cytosae:preferences";
const DEFAULTS: Preferences = {
  theme: "system",
  overlay: {
    on: true,
    opacity: 0.7,
    scale: "viridis",
    smooth: true,
    outlined: false,
    own: false,
    whole: false,
  },
  rater: "",
  dataset: "",
  tour: -1,
};

function remembered(): Preferences {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY) ?? "{}") as Partial<Preferences>;
    return { ...DEFAULTS, ...stored, overlay: { ...DEFAULTS.overlay, ...stored.overlay } };
  } catch {
    return DEFAULTS;
  }
}

export const preferences = $state<Preferences>(remembered());

export function remember(): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(preferences));
  } catch {
    /* private window: preferences last as long as the page */
  }
}

class Session {
  study = $state<Study | null>(null);
  failure = $state<string | null>(null);
  names = $state<Names>({});
  /** What concepts show, by data set and latent. */
  descriptions = $state<Record<string, Record<string, string>>>({});
  /** The cell types that concepts are specific for, with their lift, by data set and latent. */
  typical = $state<Record<string, Record<string, string>>>({});
  route = $state<Route>(parse(typeof location === "undefined" ? "" : location.hash));
  dark = $state(false);
  help = $state(false);

  #asked = 0;
  /** The server shows another study by now. */
  moved = $state("");

  readonly canAnnotate = !isStatic;
  /** The annotations kept here are of another autoencoder: none can be added. */
  get notice(): string {
    return this.study?.annotations?.notice ?? "";
  }
  get mayJudge(): boolean {
    return this.canAnnotate && !this.notice;
  }
  get rater(): string {
    return this.route.query["rater"] || preferences.rater;
  }

  async open(): Promise<void> {
    this.failure = null;
    try {
      this.study = await get("/api/study");
      shown.key = this.study.annotations?.key ?? "";
      document.title = `${this.study.name} · cytosae`;
    } catch (error) {
      this.failure = messageOf(error);
    }
  }

  /** A study whose concepts are not described has none. */
  async describe(dataset: string): Promise<void> {
    if (!dataset || this.descriptions[dataset]) return;
    const none = (): Record<string, string> => ({}); // an export of an earlier version has none
    const [descriptions, typical] = await Promise.all([
      get("/api/descriptions/{dataset}", { dataset }).catch(none),
      get("/api/typical/{dataset}", { dataset }).catch(none),
    ]);
    this.descriptions[dataset] = descriptions;
    this.typical[dataset] = typical;
  }
  /** What is said of a concept in a list: its description, or else the cell type that it is specific for. */
  said(dataset: string, latent: number): string {
    const words = this.described(dataset, latent),
      type = this.typical[dataset]?.[latent] ?? "";
    if (words && words !== NOTHING) return words;
    return [type && `more often in ${type.replaceAll("_", " ")}`, words].filter(Boolean).join("; ");
  }
  described(dataset: string, latent: number): string {
    return this.descriptions[dataset]?.[latent] ?? "";
  }

  /** Names change while people annotate; a study without a database has none. */
  async rename(): Promise<void> {
    const mine = ++this.#asked;
    try {
      const names = await getAgain("/api/names", { rater: this.rater });
      if (mine === this.#asked) this.names = names;
    } catch (error) {
      // names are an extra, unless they are another study's
      if (error instanceof ApiError && error.status === 409) {
        this.moved = error.message;
        this.names = {};
      }
    }
  }

  dataset(name: string | undefined): DatasetInfo | undefined {
    return this.study?.datasets.find((dataset) => dataset.name === name);
  }

  get home(): string {
    const known = this.dataset(preferences.dataset) ?? this.study?.datasets[0];
    return known?.name ?? "";
  }

  /** In a static export only some latents have a page. */
  hasPage(dataset: string, latent: number): boolean {
    const exported = this.study?.exported?.[dataset];
    return !exported || exported.includes(latent);
  }

  /** The name that raters gave, or under which the concept was taught. */
  nameOf(latent: number): string {
    return nameIn(this.names[latent]) || (this.study?.taught[latent] ?? "");
  }
  /** All latents that have a name. */
  get named(): number[] {
    const given = Object.keys(this.names).filter((latent) => nameIn(this.names[latent]));
    return [...new Set([...Object.keys(this.study?.taught ?? {}), ...given].map(Number))];
  }
  /** All names with their raters, to be read beside the one that is shown. */
  allNames(latent: number): string {
    return (this.names[latent]?.given ?? [])
      .map((given) => `${given.name} (${given.raters.join(", ")})`)
      .join("; ");
  }
  /** Whether a latent is meant by a text: its number, part of a name that it was given, or words of its description. */
  meant(latent: number, text: string, dataset = ""): boolean {
    const wanted = text.trim().toLowerCase();
    return (
      (wanted !== "" && isDescribed(this.said(dataset, latent), wanted)) ||
      String(latent).startsWith(wanted) ||
      isCalled(this.names[latent], wanted) ||
      this.nameOf(latent).toLowerCase().includes(wanted)
    );
  }
}

export const session = new Session();
export const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export function go(hash: string, replace = false): void {
  if (replace) {
    history.replaceState(null, "", hash);
    session.route = parse(hash);
  } else location.hash = hash;
}

const dark = typeof matchMedia === "undefined" ? null : matchMedia("(prefers-color-scheme: dark)");
export function applyTheme(): void {
  session.dark = preferences.theme === "dark" || (preferences.theme === "system" && Boolean(dark?.matches));
  document.documentElement.dataset["theme"] = session.dark ? "dark" : "light";
}
dark?.addEventListener("change", applyTheme);
