/* GIMP 2.10: the depth of a layer as a new layer, by the C++ library of dpt-deploy. No Python is needed.
 *
 * `dpt-deploy gimp --install` compiles it, and puts it into GIMP's folder with the library next to it.
 *
 * The library is opened when the plug-in runs: from the variable DPT_LIBRARY, else libdpt.so.0 next to the plug-in, else
 * by the system's rules. */
#include <dlfcn.h>
#include <string.h>

#include <libgimp/gimp.h>
#include <libgimp/gimpui.h>

#include "dpt/dpt.h"

#define PROCEDURE "plug-in-dpt-depth"
#define MAX_PATH 4096
#define LIBRARY "libdpt.so.0"

/* The functions of the library that are used. */
typedef struct library {
  dpt_status (*open)(const char *, const dpt_options *, dpt_model *);
  dpt_status (*close)(dpt_model);
  dpt_status (*get_info)(dpt_model, dpt_info *);
  dpt_status (*predict_depth)(dpt_model, const dpt_image *, float *, size_t);
  const char *(*last_error)(void);
  const char *(*last_hint)(void);
} library;

static void query(void);
static void run(const gchar *name, gint count, const GimpParam *given, gint *returned, GimpParam **values);

const GimpPlugInInfo PLUG_IN_INFO = {NULL, NULL, query, run};

MAIN()

static void query(void) {
  static const GimpParamDef arguments[] = {
      {GIMP_PDB_INT32, "run-mode", "RUN-INTERACTIVE (0) or RUN-NONINTERACTIVE (1)"},
      {GIMP_PDB_IMAGE, "image", "Image"},
      {GIMP_PDB_DRAWABLE, "drawable", "Layer whose depth is wanted"},
      {GIMP_PDB_STRING, "model", "Path of an exported model (.onnx with its sidecar)"},
  };
  static const GimpParamDef results[] = {{GIMP_PDB_LAYER, "layer", "The new layer"}};
  gimp_install_procedure(PROCEDURE, "Add the depth of a layer as a new layer",
                         "Runs a model of dpt-deploy on the layer. The new layer lies above it; its values are stretched "
                         "over the range of the depth, as in the PNG of dpt-deploy run.",
                         "dpt-deploy", "MIT licence", "2026", "_Depth...", "RGB*, GRAY*", GIMP_PLUGIN, G_N_ELEMENTS(arguments),
                         G_N_ELEMENTS(results), arguments, results);
  gimp_plugin_menu_register(PROCEDURE, "<Image>/Filters/Map");
}

static gchar *failure(const library *dpt) {
  return g_strdup_printf("%s (%s)", dpt->last_error(), dpt->last_hint());
}

static gboolean found(void *handle, const char *name, void *place) {
  void *symbol = dlsym(handle, name);
  memcpy(place, &symbol, sizeof symbol); /* ISO C has no conversion between the two kinds of pointers */
  return symbol != NULL;
}

/* Open the library; returns an error to be freed, or NULL. */
static gchar *open_library(library *dpt) {
  const gchar *named = g_getenv("DPT_LIBRARY");
  void *handle = dlopen(named ? named : LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL)
    return g_strdup_printf("The library of dpt-deploy was not found: %s. Install the plug-in again (dpt-deploy gimp "
                           "--install), or set the variable DPT_LIBRARY to the path of libdpt.so before you start GIMP.",
                           dlerror());
  if (found(handle, "dpt_open", &dpt->open) && found(handle, "dpt_close", &dpt->close) &&
      found(handle, "dpt_get_info", &dpt->get_info) && found(handle, "dpt_predict_depth", &dpt->predict_depth) &&
      found(handle, "dpt_last_error", &dpt->last_error) && found(handle, "dpt_last_hint", &dpt->last_hint))
    return NULL;
  return g_strdup_printf("%s is not the library of dpt-deploy: %s", named ? named : LIBRARY, dlerror());
}

/* Stretch the map over 0..1; a flat map becomes 0. */
static void stretch(float *depth, size_t count) {
  float low = depth[0], high = depth[0];
  for (size_t i = 1; i < count; i++) {
    if (depth[i] < low) low = depth[i];
    if (depth[i] > high) high = depth[i];
  }
  const float range = high - low;
  for (size_t i = 0; i < count; i++) depth[i] = range > 0 ? (depth[i] - low) / range : 0;
}

static gchar *check_layer(gint32 image, gint32 layer) {
  if (!gimp_item_is_valid(layer) || !gimp_item_is_layer(layer))
    return g_strdup("The depth of a layer is wanted; this is none. Select a layer, not a channel or a mask.");
  if (gimp_item_is_group(layer))
    return g_strdup("A layer group has no pixels of its own. Select a layer in it, or merge the group.");
  if (gimp_image_base_type(image) == GIMP_INDEXED)
    return g_strdup("An image with a colour map cannot show depth. Convert it first: Image > Mode > RGB.");
  return NULL;
}

/* Predict the depth of the pixels of a layer; returns an error to be freed, or NULL. */
static gchar *predict(const gchar *path, gint32 layer, gint width, gint height, float *depth) {
  library dpt;
  gchar *error = open_library(&dpt);
  if (error != NULL) return error;
  dpt_model model = 0;
  if (dpt.open(path, NULL, &model) != DPT_OK) return failure(&dpt);
  dpt_info info = {.struct_size = sizeof info};
  const size_t count = (size_t)width * height;
  guchar *pixels = g_try_malloc(3 * count);
  if (pixels == NULL) {
    error = g_strdup("There is not enough memory for the pixels of this layer.");
  } else if (dpt.get_info(model, &info) != DPT_OK) {
    error = failure(&dpt);
  } else if (info.task != DPT_DEPTH) {
    error = g_strdup("This model returns classes, not depth. Choose a model of depth.");
  } else {
    /* The numbers of the pixels as a file would have them: no change of colour space. */
    const Babl *format = babl_format_with_space("R'G'B' u8", gimp_drawable_get_format(layer));
    GeglBuffer *buffer = gimp_drawable_get_buffer(layer);
    gegl_buffer_get(buffer, GEGL_RECTANGLE(0, 0, width, height), 1.0, format, pixels, GEGL_AUTO_ROWSTRIDE, GEGL_ABYSS_NONE);
    g_object_unref(buffer);
    const dpt_image image = {sizeof image, pixels, height, width, 0, DPT_RGB8};
    if (dpt.predict_depth(model, &image, depth, count) != DPT_OK) error = failure(&dpt);
  }
  g_free(pixels);
  dpt.close(model);
  return error;
}

static gint32 add_layer(gint32 image, gint32 layer, gint width, gint height, const float *depth) {
  gint x, y;
  const GimpImageType type = gimp_image_base_type(image) == GIMP_GRAY ? GIMP_GRAY_IMAGE : GIMP_RGB_IMAGE;
  const gint32 made = gimp_layer_new(image, "depth", width, height, type, 100, gimp_image_get_default_new_layer_mode(image));
  gimp_drawable_offsets(layer, &x, &y);
  gimp_image_undo_group_start(image);
  gimp_image_insert_layer(image, made, gimp_item_get_parent(layer), gimp_image_get_item_position(image, layer));
  gimp_layer_set_offsets(made, x, y);
  GeglBuffer *buffer = gimp_drawable_get_buffer(made);
  const Babl *format = babl_format_with_space("Y' float", gimp_drawable_get_format(made));
  gegl_buffer_set(buffer, GEGL_RECTANGLE(0, 0, width, height), 0, format, depth, GEGL_AUTO_ROWSTRIDE);
  g_object_unref(buffer);
  gimp_drawable_update(made, 0, 0, width, height);
  gimp_image_undo_group_end(image);
  return made;
}

/* Ask for the model; the last choice is kept while GIMP runs. FALSE: cancelled. */
static gboolean ask(gchar *path) {
  gimp_ui_init("dpt-depth", FALSE);
  gimp_get_data(PROCEDURE, path);
  GtkWidget *dialog = gtk_file_chooser_dialog_new("Depth: choose an exported model", NULL, GTK_FILE_CHOOSER_ACTION_OPEN, "_Cancel",
                                                  GTK_RESPONSE_CANCEL, "_Open", GTK_RESPONSE_OK, NULL);
  GtkFileFilter *filter = gtk_file_filter_new();
  gtk_file_filter_set_name(filter, "Models and engines");
  gtk_file_filter_add_pattern(filter, "*.onnx");
  gtk_file_filter_add_pattern(filter, "*.plan");
  gtk_file_chooser_add_filter(GTK_FILE_CHOOSER(dialog), filter);
  if (path[0]) gtk_file_chooser_set_filename(GTK_FILE_CHOOSER(dialog), path);
  const gboolean chosen = gtk_dialog_run(GTK_DIALOG(dialog)) == GTK_RESPONSE_OK;
  if (chosen) {
    gchar *name = gtk_file_chooser_get_filename(GTK_FILE_CHOOSER(dialog));
    g_strlcpy(path, name ? name : "", MAX_PATH);
    g_free(name);
    gimp_set_data(PROCEDURE, path, MAX_PATH);
  }
  gtk_widget_destroy(dialog);
  return chosen;
}

static gchar *work(gint32 image, gint32 layer, const gchar *path, gint32 *made) {
  gchar *error = check_layer(image, layer);
  if (error != NULL) return error;
  const gint width = gimp_drawable_width(layer), height = gimp_drawable_height(layer);
  const size_t count = (size_t)width * height;
  float *depth = g_try_new(float, count);
  if (depth == NULL) return g_strdup("There is not enough memory for the depth of this layer.");
  gimp_progress_init("Depth");
  error = predict(path, layer, width, height, depth);
  if (error == NULL) {
    stretch(depth, count);
    *made = add_layer(image, layer, width, height, depth);
  }
  g_free(depth);
  return error;
}

static void run(const gchar *name, gint count, const GimpParam *given, gint *returned, GimpParam **values) {
  static GimpParam results[2];
  static gchar path[MAX_PATH];
  (void)name;
  *returned = 1;
  *values = results;
  results[0].type = GIMP_PDB_STATUS;
  results[0].data.d_status = GIMP_PDB_SUCCESS;
  const GimpRunMode mode = given[0].data.d_int32;
  gegl_init(NULL, NULL);
  if (mode == GIMP_RUN_INTERACTIVE ? !ask(path) : mode == GIMP_RUN_WITH_LAST_VALS && !gimp_get_data(PROCEDURE, path)) {
    results[0].data.d_status = GIMP_PDB_CANCEL;
    return;
  }
  if (mode == GIMP_RUN_NONINTERACTIVE) g_strlcpy(path, count > 3 && given[3].data.d_string ? given[3].data.d_string : "", MAX_PATH);
  gchar *error = work(given[1].data.d_image, given[2].data.d_drawable, path, &results[1].data.d_layer);
  if (error != NULL) { /* GIMP shows it, and hands it to a script; it is freed with the process */
    *returned = 2;
    results[0].data.d_status = GIMP_PDB_EXECUTION_ERROR;
    results[1].type = GIMP_PDB_STRING;
    results[1].data.d_string = error;
    return;
  }
  *returned = 2;
  results[1].type = GIMP_PDB_LAYER;
  if (mode != GIMP_RUN_NONINTERACTIVE) gimp_displays_flush();
}
