/** Pictures are made small in the browser: encoders look at some 224 to 384 pixels. */

const LONGEST = 512;

/** The picture as a data URL of at most 512 pixels a side; PNG where it may be transparent, else JPEG. */
export async function shrunk(file: Blob): Promise<string> {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, LONGEST / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  if (!context) throw new Error("this browser gives no canvas");
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const opaque = file.type === "image/jpeg";
  return canvas.toDataURL(opaque ? "image/jpeg" : "image/png", 0.92);
}
