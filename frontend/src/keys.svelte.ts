/** Keys of the view that is open; the list behind `?` is made of the same entries. */

import { untrack } from "svelte";

export interface Shortcut {
  keys: string[];
  label: string;
  run: (event: KeyboardEvent) => void;
  typing?: boolean;
}

class Keys {
  /** The innermost view or dialog is last and asked first. */
  groups = $state.raw<{ title: string; shortcuts: Shortcut[] }[]>([]);

  add(title: string, shortcuts: Shortcut[]): () => void {
    const group = { title, shortcuts };
    this.groups = [...this.groups, group];
    return () => {
      this.groups = this.groups.filter((other) => other !== group);
    };
  }

  handle(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = isTyping(event.target);
    for (const { shortcuts } of [...this.groups].reverse()) {
      const pressed = shortcuts.find(
        (shortcut) =>
          shortcut.keys.includes(event.key) &&
          (!typing || shortcut.typing) &&
          !(isPressable(event.target) && event.key === "Enter"),
      );
      if (pressed) {
        event.preventDefault();
        pressed.run(event);
        return;
      }
    }
  }
}
export const keys = new Keys();

export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement)
    return !["checkbox", "radio", "button", "submit"].includes(target.type);
  return (
    target instanceof HTMLTextAreaElement || target instanceof HTMLSelectElement || target.isContentEditable
  );
}
/** Enter on a link or a button does what it says there. */
const isPressable = (target: EventTarget | null): boolean =>
  target instanceof HTMLElement && target.matches("a, button, summary");

/** For `$effect`: the view's keys while it is open. */
export const useKeys = (title: string, shortcuts: Shortcut[]): void => {
  $effect(() => untrack(() => keys.add(title, shortcuts)));
};
