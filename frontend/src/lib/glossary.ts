/** Terms and their meanings, read from the glossary of the documentation: one source for both. */
import page from "../../../docs/reference/glossary.md?raw";

/** Rows of a table of Markdown, by term in lower case; "rate (FDR)" has an entry for each name. Links become text. */
export function readGlossary(text: string): Map<string, string> {
  const terms = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, word = "", meaning = ""] = /^\| (.+?) \| (.+) \|$/.exec(line) ?? [];
    if (!word || word === "word" || /^-+$/.test(word)) continue;
    const plain = meaning.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1");
    const [, main = word, short = ""] = /^(.+?) \((.+)\)$/.exec(word) ?? [];
    for (const name of [main, short]) if (name) terms.set(name.toLowerCase(), plain);
  }
  return terms;
}

const terms = readGlossary(page);

/** What a term means; a plural has the entry of its singular. Empty where the glossary does not have it. */
export const meaningOf = (word: string): string => {
  const key = word.toLowerCase();
  return terms.get(key) ?? terms.get(key.replace(/(?<=ch)es$|s$/, "")) ?? "";
};

/** A text in which terms stand in square brackets, as pieces. */
export const pieces = (text: string): { text: string; term: boolean }[] =>
  text
    .split(/(\[[^\]]+\])/)
    .filter(Boolean)
    .map((piece) =>
      piece.startsWith("[") ? { text: piece.slice(1, -1), term: true } : { text: piece, term: false },
    );
