/** The views: which file shows an address, and which have a tab. A new view is an entry here. */
import type { Component } from "svelte";
import { isStatic } from "./api";
import { href } from "./route";
import { session } from "./session.svelte";
import AnnotateView from "./views/AnnotateView.svelte";
import CellView from "./views/CellView.svelte";
import CellsView from "./views/CellsView.svelte";
import ClassifierView from "./views/ClassifierView.svelte";
import CompareView from "./views/CompareView.svelte";
import ConceptView from "./views/ConceptView.svelte";
import ConceptsView from "./views/ConceptsView.svelte";
import FieldView from "./views/FieldView.svelte";
import FieldsView from "./views/FieldsView.svelte";
import PatientView from "./views/PatientView.svelte";
import PatientsView from "./views/PatientsView.svelte";
import SummaryView from "./views/SummaryView.svelte";
import TeachView from "./views/TeachView.svelte";
import UploadView from "./views/UploadView.svelte";
import WorklistsView from "./views/WorklistsView.svelte";

interface Tab {
  name: string;
  open: () => string;
  shown: () => boolean;
  key?: string;
}

type Props<P> = { [Name in keyof P]: (parts: string[]) => P[Name] };
interface View {
  component: Component;
  /** Its own tab, or the view whose tab it stands under. */
  tab: Tab | string;
  /** What the component is given, each of the parts of the address. */
  props: Props<Record<string, unknown>>;
}
const view = <P extends object>(component: Component<P>, tab: Tab | string, props: Props<P>): View => ({
  component: component as Component,
  tab,
  props: props as View["props"],
});

const dataset = ([name]: string[]): string => name ?? session.home;
const hasPatients = (): boolean => Boolean(session.study?.has.patients);

/** By the first part of the address; tabs in this order. */
const VIEWS: Record<string, View> = {
  concepts: view(
    ConceptsView,
    { name: "Concepts", key: "C", open: () => href("concepts", [session.home]), shown: () => true },
    { dataset },
  ),
  concept: view(ConceptView, "concepts", { dataset, latent: (parts) => Number(parts[1]) }),
  cells: view(
    CellsView,
    { name: "Cells", open: () => href("cells", [session.home]), shown: () => !isStatic },
    { dataset },
  ),
  cell: view(CellView, "cells", { dataset, row: (parts) => Number(parts[1]) }),
  fields: view(
    FieldsView,
    {
      name: "Fields",
      key: "F",
      open: () => href("fields", [session.home]),
      shown: () => !isStatic && Boolean(session.study?.has.fields),
    },
    { dataset },
  ),
  field: view(FieldView, "fields", { dataset, index: (parts) => Number(parts[1]) }),
  patients: view(
    PatientsView,
    { name: "Patients", key: "P", open: () => href("patients"), shown: hasPatients },
    {},
  ),
  patient: view(PatientView, "patients", { id: ([id]) => id ?? "" }),
  compare: view(
    CompareView,
    { name: "Compare", open: () => href("compare"), shown: hasPatients },
    { first: (parts) => parts[0], second: (parts) => parts[1] },
  ),
  classifier: view(
    ClassifierView,
    {
      name: "Classifier",
      open: () => href("classifier"),
      shown: () => Boolean(session.study?.has.classification),
    },
    {},
  ),
  upload: view(
    UploadView,
    {
      name: "Upload",
      open: () => href("upload"),
      shown: () => !isStatic && Boolean(session.study?.has.uploads),
    },
    {},
  ),
  worklists: view(
    WorklistsView,
    { name: "Worklists", key: "W", open: () => href("worklists"), shown: () => session.canAnnotate },
    {},
  ),
  teach: view(
    TeachView,
    { name: "Teach", key: "T", open: () => href("teach"), shown: () => session.canAnnotate },
    {},
  ),
  annotate: view(AnnotateView, "worklists", {
    id: ([id]) => Number(id),
    position: (parts) => Number(parts[1] ?? 0),
  }),
  summary: view(SummaryView, "worklists", { id: ([id]) => Number(id) }),
};

/** The tabs, each with the name of its view. */
export const TABS = Object.entries(VIEWS).flatMap(([view, { tab }]) =>
  typeof tab === "string" ? [] : [{ view, ...tab }],
);
/** None for an address that no view has. */
export const viewOf = (name: string): View | undefined =>
  Object.hasOwn(VIEWS, name) ? VIEWS[name] : undefined;
/** The view whose tab an address stands under. */
export const tabOf = (name: string): string => {
  const tab = viewOf(name)?.tab;
  return typeof tab === "string" ? tab : name;
};
