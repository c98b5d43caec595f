/** Uploaded cells of this page, newest first; the server forgets them after an hour, the page when it is closed. */
import type { Upload, UploadedCell } from "./types";

class Uploads {
  cells = $state.raw<(UploadedCell & { id: string; key: string })[]>([]);
  add(upload: Upload): void {
    this.cells = [
      ...upload.cells.map((cell) => ({ ...cell, id: upload.id, key: `${upload.id}.${cell.index}` })),
      ...this.cells,
    ].slice(0, 100);
  }
}
export const uploads = new Uploads();
