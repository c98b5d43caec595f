/** A guided first look: five stops, each an address of this study and what to see there. */
import { get } from "./api";
import { decodeMap } from "./lib/maps";
import { href, patchName } from "./route";
import { go, preferences, remember, session } from "./session.svelte";

interface Place {
  dataset: string;
  latent: number;
  row: number;
  patch: string;
}
interface Stop {
  title: string;
  /** Terms of the glossary stand in square brackets. */
  text: string;
  /** The part of the page that it is about. */
  target: string;
  shown: () => boolean;
  address: () => Promise<string>;
}

/** The most interesting concept, the cell in which it is strongest, and there the patch. */
async function strongest(): Promise<Place> {
  const dataset = session.home;
  const table = await get("/api/latents/{dataset}", { dataset });
  const order = table.interest ?? table.mean_activation ?? [];
  const open = [...table.latent.keys()].filter(
    (i) => table.concept[i] && session.hasPage(dataset, table.latent[i] ?? 0),
  );
  const best = open.reduce((a, b) => ((order[b] ?? -1) > (order[a] ?? -1) ? b : a), open[0] ?? 0);
  const latent = table.latent[best] ?? 0;
  const images = await get("/api/latents/{dataset}/{latent}/images/{kind}", {
    dataset,
    latent,
    kind: "reference",
  });
  const [cell] = images.cells;
  const map = cell?.map ? decodeMap(cell.map) : new Uint8Array(1);
  const columns = session.study?.grid[1] ?? 16;
  return { dataset, latent, row: cell?.row ?? 0, patch: patchName(map.indexOf(Math.max(...map)), columns) };
}

async function aPatient(): Promise<string> {
  const { patients } = await get("/api/patients");
  const ill = patients.find((one) => one.diagnosis && !/healthy|control/i.test(one.diagnosis));
  return href("patient", [(ill ?? patients[0])?.id ?? ""]);
}

const diagnoses = (): string[] => session.study?.groups["diagnosis"] ?? [];

const STOPS: Stop[] = [
  {
    title: "What a concept is",
    text: "These are the cells in which one [concept] is strongest: its [reference images]. On each lies the [concept map], bright where the concept is active. Ask what the bright places have in common: that is what the concept shows. It was learned without labels.",
    target: "article ul.grid",
    shown: () => true,
    address: async () => {
      const { dataset, latent } = await strongest();
      return href("concept", [dataset, latent]);
    },
  },
  {
    title: "A patch",
    text: "The [backbone] sees a cell as squares, the [patches]. One of them is chosen here, and the list shows its concepts, the strongest first. Click another patch, or press p and use the arrow keys.",
    target: "section[aria-label='Patch']",
    shown: () => true,
    address: async () => {
      const { dataset, latent, row, patch } = await strongest();
      return href("cell", [dataset, row], { latent, patch });
    },
  },
  {
    title: "A patient",
    text: "The [barcode] of a patient is the mean [count] of every concept over the patient's cells. Here you see which concepts are unusual, compared with the other patients. Look at the [FDR] first: with many concepts, some are unusual by chance.",
    target: ".page section.card",
    shown: () => Boolean(session.study?.has.patients),
    address: aPatient,
  },
  {
    title: "Two diseases",
    text: "Each row is a concept that patients of one disease show more often. Choose a row to see the cells of both sides. The [confidence interval] stands below the difference; if the [FDR] is high, do not rely on it.",
    target: ".scroll table",
    shown: () => diagnoses().length > 1,
    address: () => Promise.resolve(href("compare", diagnoses().slice(0, 2))),
  },
  {
    title: "Teach one",
    text: "If no concept shows what you mean, teach it. Press Teach, and click patches that show it and patches that do not. The map of the [taught concept] appears after each click. The page Teach says how it becomes part of the study.",
    target: "[data-teach]",
    shown: () => session.mayJudge,
    address: async () => {
      const { dataset, row } = await strongest();
      return href("cell", [dataset, row]);
    },
  },
];

/** What `preferences.tour` holds beside the number of a stop. */
const NEW = -1,
  OVER = -2;

class Tour {
  readonly stops = $derived(STOPS.filter((stop) => stop.shown()));
  /** Nobody has looked at it in this browser yet. */
  readonly offered = $derived(preferences.tour === NEW);
  readonly at = $derived(Math.min(preferences.tour, this.stops.length - 1));
  readonly stop = $derived(this.at >= 0 ? this.stops[this.at] : undefined);
  failed = $state(false);

  async show(at: number): Promise<void> {
    const stop = this.stops[at];
    if (!stop) return this.end();
    this.failed = false;
    try {
      go(await stop.address());
    } catch {
      this.failed = true;
    }
    this.#keep(at);
  }
  end(): void {
    this.#keep(OVER);
  }
  #keep(at: number): void {
    preferences.tour = at;
    remember();
  }
}

export const tour = new Tour();
