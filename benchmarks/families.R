# Time and smallest effective sample size of rstanarm, for benchmarks/families.py.
# Arguments: CSV file, formula, family.
suppressMessages(library(rstanarm))
given <- commandArgs(trailingOnly = TRUE)
data <- read.csv(given[1])
family <- switch(given[3], binomial = binomial(), bernoulli = binomial(), poisson = poisson(),
                 negativebinomial = neg_binomial_2())
begin <- proc.time()[["elapsed"]]
fit <- suppressWarnings(stan_glmer(as.formula(given[2]), data = data, family = family,
  prior = normal(0, 2.5), prior_intercept = normal(0, 2.5), chains = 4, cores = 1, seed = 1,
  refresh = 0))
seconds <- proc.time()[["elapsed"]] - begin
s <- as.data.frame(summary(fit))
wanted <- !grepl("^b\\[|mean_PPD|log-posterior", rownames(s))
cat(seconds, min(s[wanted, "n_eff"]), "\n")
