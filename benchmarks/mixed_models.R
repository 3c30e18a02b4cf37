# Time lmer on one data set: Rscript mixed_models.R FILE FORMULA REPEATS FACTORS REML
# Prints processor seconds of each fit, data already in memory.
suppressPackageStartupMessages(library(lme4))
arguments <- commandArgs(trailingOnly = TRUE)
data <- read.csv(arguments[1])
for (name in strsplit(arguments[4], ",")[[1]]) data[[name]] <- factor(data[[name]])
formula <- as.formula(arguments[2])
repeats <- as.integer(arguments[3])
fit <- function() suppressWarnings(suppressMessages(
  lmer(formula, data, REML = arguments[5] == "TRUE")))
used <- function() sum(proc.time()[1:2])
if (repeats > 1) invisible(fit())
cat(replicate(repeats, { start <- used(); fit(); used() - start }), "\n")
